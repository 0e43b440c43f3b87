"""Do the pinned decoders give the right values here? One small known frame for each transfer syntax, decoded and compared.

A library of another version, or one that is missing, can change HU without a word; so `check` and a worker's start ask first.
The frames hold 32 x 32 pixels of a formula (`_pattern`), compressed by DCMTK and by pydicom's encoders, as Pixel Data values.
High-Throughput JPEG 2000 has no frame here: no encoder for it was at hand.
"""

import base64
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.errors import CannotDecode
from inference.pixels import Layout, decode_frame, syntax_name

SIZE: Final = 32


@dataclass(frozen=True)
class _Known:
    """A compressed frame; `error_max` in stored values is 0 for lossless syntaxes."""

    transfer_syntax_uid: str
    bits_allocated: int
    bits_stored: int
    signed: bool
    error_max: int
    packed: str


def failing_decoders() -> tuple[str, ...]:
    """Names of the transfer syntaxes whose decoder is missing or gives other values than it must; () when all is well."""
    failing = [syntax_name(known.transfer_syntax_uid) for known in KNOWN if not _decodes(known)]
    return tuple(dict.fromkeys(failing))


def _decodes(known: _Known) -> bool:
    layout = Layout(SIZE, SIZE, known.bits_allocated, known.bits_stored, known.bits_stored - 1, known.signed)
    try:
        pixels = decode_frame(zlib.decompress(base64.b64decode(known.packed)), known.transfer_syntax_uid, layout)
    except CannotDecode:
        return False
    return int(np.abs(pixels.astype(np.int32) - _pattern(known)).max()) <= known.error_max


def _pattern(known: _Known) -> npt.NDArray[Any]:
    j, i = np.mgrid[0:SIZE, 0:SIZE]
    if known.bits_allocated == 8:
        return np.asarray((i * 7 + j * 9) % 256, np.int32)
    return np.asarray((i * i + 3 * j * i) // 5 % 512 * 8 - (1500 if known.signed else 0), np.int32)


KNOWN: Final = (
    _Known(  # RLE Lossless
        "1.2.840.10008.1.2.5",
        16,
        16,
        False,
        0,
        "eNqdUiuQpEgQTbrnU7t7M1MScReURCKRSCQSWRJZElkSiUSWRJZElkQiURclkYi7OPZ2h7qE/kz37qojoiOafC/fe5nJ6sA+wOlZ"
        "8f/6DHDA/wn+/jzC/3r+gu/e++H9uD64R3j6e39b8W19dE//wLebN3hebrjrk3v+esfGNOQrvN9VHPkXOeu14rDiPn37RQ0+f8Pe"
        "H6vu8/ezorurwpfvV7a7qTusr7+sw2/v5w63I1vaE+IQWc/IxQPOCLycMHenBzvmvbxuoLtKfoTbGh2i7q4Vrqh78V7f1rPyRzOc"
        "k7oXeHU77s7tcON8wfEbODPcTwab/eENvPUcwV01PjwwgoMT5UeRW5sDeIdbzofMrZG74cBPOrvVwTscTyQ4m8GNEG7z5OV2Ety4"
        "XZS8365m3vHB3fndSh1eNrsHtHt4vLBgN/Seb6WOb7udd8/aHD2CUt4XTH54fUPsYZN6ctfwF0fv00XrcdM6ntrvaLul9xljHV92"
        "rcdd69mdh7yzPHzZtD6dtJBEVvid+GGccqmMJXHR9JBIA2kzxZVNFDj4g/phkomqHWaWltqyvLFMdIRrWvRRHQD2J7mo9QhhXpkl"
        "EnpJqjGUY1TPuQkDoCzOdjzi9S5PMjUnzZxpWtrMICFMOepDiDhJqp7yFrKW8D6sobBZAH6UlaqfWb71V4PPNeEdFWPSUrmICQkJ"
        "rzrrp9Isiex9jvGML23asYZIKANgqVADxELPUWno1m+YnDITKb+mNQ0gzKSecLaRFRrNIe/8HW9Z4zesRUJeG4hLA1kzJfWctlSg"
        "fqQQV0zHAU7XjD4uJ5IDK8e4WfiQ6K0b+3UyIEG0UyQMyTVwVLdZFypak4rWrI0HHqB6B2lto8pu3X2kaAXlUkJFVdTzJcDd4W40"
        "5JqKIVZUzoXllk8CatZlM94CF8/KnskxUaS0eZ+Y2CR9bkuiklGyYJOP6wlRXJ4Ot+FxuMjkc8VMQTskKBwN8LKKoPzEp2KWBO0L"
        "aNNZpcG2G9xdNeN0XaQjHZvMCpS3MhxkZIM9HV7Gx+yzmDG93yajoDqHNicGb5F3TM6YTUdtqCOTjgJUjOmGMrR1RgLUDxtSTnwf"
        "riRNaDioZGrSpeXMKiQMcctqWpGaqrDLrPQ7DhrVRTS1IgqgGFMT7+HSsYAmGoRvCr+X8axFDH0AwuZDNmQjnyVtMTvrBRt2OFpM"
        "jbcQU2EL3GzFdDrJEOFeojgPJy1TNgfbcIsk2+Knrds3IrRNRkdVRDDqCgkgScO6FNMZTjqO9sliZOrbruKJH8DWrffVZIvKQBc4"
        "Gw9ntI/pPOjgcvcmtlVk6xS6ErPXPCK2a0qOt6h8ndgS5WlXsKFOyVDzcBmUzGMG8xhs30W+9dfJrHJ/bHK2y/vL2KlaCiTgZanG"
        "eIJZRK0ucbihrUSWhD4F+A//qyix",
    ),
    _Known(  # JPEG-LS Lossless
        "1.2.840.10008.1.2.4.80",
        16,
        16,
        False,
        0,
        "eNoBGATn+/7/AOAEAAAAAAAAAP7/AOAEBAAA/9j/9wALEAAgACABAREA//gADQH//wASAEMBFABA/9oACAEBAAAAAOgfB+D8HYbh"
        "fD2O45m9FqcX4uy3NN3utzuN/w3F4nD5VRqFP5B+CEHoshBECGEPpMjqsUaqWKMEfpsnrEXaUEkJPVZTVcabacKYEg+CoxDCGELp"
        "hLry6uMbE0rJYrhbpHSQozIY7OZrMabSbLYTOgBBCDQehBC6gnqyquLa0wsDOtlqoq3Xz6+EMhEkkEcnE0qLcgCAMEIchqUQcZat"
        "aNHZE5KVoojm1PLg7vzqRHshEkgE9bUAQOg0Ekk+BAgYL27ZskhI7DXmVsa2ppcHd2dXR7IRBXRACAEQSUhPVZkyVateo/SAkdQY"
        "FdfZl1tZGxzanlwd35c0AQdBxk1Xjx5VixNkcJ6oyKmJiotrboiISgnJy4tNDN9IAgyHioiYjx5EixaJqni7YSJEqVMnLkhICgnJ"
        "i0sMyBQCCwqNGrV48ijVKoV62Wq8W5cSJUqYuXBA/Jy4lNCAQCES5NavHmkPqljamlod2mvXryJFixY8dkZEQmBeQ6AQeYiRKm9A"
        "rKq4ttTS0N7nTp0YMG9eubNSUkJCshkAhpcSGEWS6MmqqotrbE0venTZjz0UcJkzZoSGRgjUBDS4PQghdAQEhHXt2z56SGLH/3bF"
        "FlggYLnzwsRiAi4IQ5DUosx5EixWzduiISs0aPHGG6775Y8dFSDQEDoNBJJdmy5dSpixYkInatWeOMMMP3yxYqKihFIAQAiCSkJ6"
        "/CgQKFDhu3fCdOlS662WVddOnDgoQKAIOg4yax06cOZMuXNnopbt0ueccdnnipU4KCZEIAgyHioiYq6yy1ddKFDh25Up9556qOFC"
        "hs2JgAAAAPjAILCo0asp3nnoo4TJmhW5TpddY7KuulThwA3BW+AQiXJrK++eZptttmhS3btdc444/PFSpU9vWAxCAQeYiRKiuuuu"
        "aRIkSMidKlS552WWedOoicACi/oBDS4lRb73XJJpoiZFLdqlzzjjs88WKnu6xxVhkBDS4kSp/1ttiyyRIGDdqlS5xx2WeKnvzjHR"
        "RhUBFw0KFSX/b74oskCBgUt0qXPOOyzyHrCDp0UXxAQk2bSY/3/4okkEBApbtWuecccfnj35xSwqKsGgIuWhRZCP/3wgQIEDxOlS"
        "o887rrHwriHjp0UXpAQlsWQiRf9hBBAgeKW7VLnnHHZD3gFYqdFRRgUBEtiiyIkf/gggQePOW6dLrLLU+NdMqUOGxJgEBLiRRZCZ"
        "FH8IIEHjxa7Up995Yc8A9cKHDYmu6AiX25CZEi/CCCCB4rcuW++8sr5V2nShQoJiS/IEupFBgIo//CBAg8eLValPvvDngNXXDhs2"
        "JLqA/9mCQ9uf",
    ),
    _Known(  # JPEG 2000 Lossless
        "1.2.840.10008.1.2.4.90",
        16,
        16,
        False,
        0,
        "eNr795/hAQsDBPwDsp2YGRj++/8PZNAECylAMQyg8hn5GRn/BzHwgJgMrCwsDIz/YxiEHRo6OiYgo/8pDKoMjM5FqYklqSkKSZUK"
        "/gWpeV4Bru4KZalFxZn5eQpGeqZ6Rv8nMHCBTGU6CTRn8vk/Bjyc14MP1CsE8N/gYvzTyMB0n4mb8StQ4AL/DTGGv40N/GuLe7J7"
        "+W/M+/ZQoFDyntnmA/8ZPfifWDH/YW9QWZUmHP2KRdlww4zKB0fXPPTQfiWtcu2lsOT1D9NE3l49Jblf7jJzodXSlo5Tdsu8eiWB"
        "epkz2N/EMv7jcYg9sSliaZPFW3aNh0EpLBLVad+Wci+1XbJZ6aNjeJfh3YP1i9hKZj6YGO+38GzvefsK0ad5pxqz6mN5Q3gb1bRX"
        "J2tdDfK9qtSoIat8dIerXXbA41278nvdLGcv+n5ighSDckLIf68HltHBK34qsj1PCfcRjd3qcvKlSKte7HPHsMNreoJaSgMCX/Ys"
        "2RtzarGwdH5PXNmS3B0s6w/853zB/6yl4T/7g9nvT4ov8zi6RNpmFr/Q63O6vFvktyYuzX2QOcm3rySZLTJdePW6gzxVlQ0uH/vk"
        "Tn78XHPxQilT19mzghs2B+Z2aeZcdpC/VB35P8x/3atgIfPck1MOW4nJiEszp90+GMqaJ5J+yPZIM8unsi1/y++8dPf/JVMqYPPv"
        "gZL7J8OezpA7L6LP3GqS2yd65MCl3x9fnllwJ1j72o8pc21lrrYtf+ii4NU/e4cSf+8/512Lcnt9avmuLlt97UO44n/1SkWHHKGu"
        "ufzGggfils2TvFB978jLT1FWQRpqssm6O66/+mU4S3qWvq/w7KodCTPcY/ZG53I/evq/vGLlF3nGLdMSmz/Ucx/e0LyuieODSSTj"
        "wyq53d/mLzu6JfHx+zu//K/XdF+1/fRe/UMvb+nzRVd5jGbFR6j+2VGV8j9wKXOb3dKTF79cnOb1WmXubd/mpBuXnazOz9ymw8ut"
        "P/VIsq2Bc+s1phrzFzqnT27velSpyfyv1PXf3rdrneJ0TTt2ta1kOJ3zfCtXe5yukBZ7lfG73nsM02vPbDOrW+3qprZdf4sj27wb"
        "bkyGamtqN25LbwuL/18PhDcB1JF81w==",
    ),
    _Known(  # RLE Lossless, signed
        "1.2.840.10008.1.2.5",
        16,
        16,
        True,
        0,
        "eNqdUiuQhDgQDTPZ3xUSyRUmEhmJOBGJjEQikUhkJDISGYlEIiORkYirq0gk95tl4Drs7OzM7Kqbqqma9Hv93uvuWTf0O0YfnxV+"
        "H14ROsDv3+D7xxH9r8+fp/f387Ke1xUU0V+nBV7n/bWhv6+vbVsR8v7Z3+sFXb1/796btx1O3yro+H6tORVX26B2/lZDeAHm+lDd"
        "oHr+oYqeltO6a2xXL1ffns4X/mMdPZ+h41PpFvGeXz6h7QFCz9sF224E0Y5tz97L6/pDI9pB9LJd0O1BFl1Q9Obw7aYbXfHt5fD6"
        "9ssHvn1Td7HQ6/aGTutpu3P4UoBw25t3eneMew10k8F7cwJ3FHRn8wQxTu/LLQXdqXz6AHpJix5kYL8XI285bz8KeU9g9fJhdV6/"
        "OOg6lIcviQ9vzsv7Yn3ZXZVgdwAendQtC91q7bmPzm+32WnoYnkndnzdHY8ghhwNXZM5mneECQ/PTuzpI/wX69bzgG+0sNPybmne"
        "g9brhxbyDisJ4yTNCqG0xXFW9xPJlSVF72ctzjXZyK80SfNStsMcsKIxmFU9ZnKMhaH1xLuIQH9eyc4sJK1aG3JpwrxdUrXwLqhs"
        "GhHKsnLHueh2+bjUQd4HpaENLi0Q0kKAPkkBj/N2omIg5RCLKe1IjcuIJLxs9BSwyvW3cyJMLEYql3ygKpQ+EHLRjjgplA1zNSUC"
        "4tlE4WJkfaxIExFWSD2TTJqAN5a6fsuUX1quk452NCJpqYwPsy2sNmBOqjHZ8YH1Sc8GIFSdJVljSdn7eRcUA5WgzzXgmpksgun6"
        "JYHlcDWzZsn6UMy5cd3Qb/IZCHLwubRxZYgAdVyOqaZd3NKODdksIlAfSdFh3mLXPXFNW9KEDWmp5pMII9gd7MaQylA5Z5qqoMYC"
        "C1+Sjo1lALeAxbNmYmrJddzgasptZvOpwk2s80WxyMlnnQ8oLM+kbngYjtsqaJmt6QgEDaMRuKyOQd4Xfh2oGOxrMhSBLiK3G9hd"
        "G8B0IzfcZLbEEuSxSmfFcbSng8skkD2QAaRPhnyR1FRkqGILt6hGpgLIZviQGm6LRRKdQbq5SXFXxhHop33c+GIfron71Aqic78v"
        "wkEwrIEwZwPraBt3VKdjiVUyCmJAXXJ/kDwi9VLYbA9XLDXp+SwTWyeTygIjMzJFROJqLudyEYGiA2Rnk2TzDvPQdnAL6de4hs22"
        "zBS+SgGeFIiL1DeqYEHkhgtV7Bbvu+7EyhT3JV10zcliWiAQFfdsLCCdFfEowD4PrSoSPLYiTyLius2+mjLUJTE1zCbSAOwzGswm"
        "+rx7n+GW464gYwPZO8FjPPaNgFu0iclxA/J0rNncFfHciTSctaoyRoIlcv+LyvV3eaCrZOkrtssn4TLqTkkgwGWpgXiSYUCxaWC4"
        "eWhlmacJJeg/8axA6w==",
    ),
    _Known(  # JPEG 2000 Lossless, signed
        "1.2.840.10008.1.2.4.90",
        16,
        16,
        True,
        0,
        "eNr795/hAQsDBPwDsp2YGRj++/8PZNAECylAMQyg8hn7GRn/BzHwgJgMrCwsDIz/YxiEHRo6OiYgo/8pDKoMjM5FqYklqSkKSZUK"
        "/gWpeV4Bru4KZalFxZn5eQpGeqZ6Rv8nMHCBTGU6ATRn8oG6Aw4cRgfqFQL4b3Ax/mlkYLrPxM34FShwgf+GGMPfxgb+tcU92b38"
        "N+Z9eyhQKHnPbPOB/4we/E+smP+wN6isShOOfsWibLhhRuWDo2seemi/kla59lJY8vqHaSJvr56S3C93mbnQamlLxym7ZV69kkC9"
        "zBnsb2IZ//E4xJ7YFLG0yeItu8bDoBQWieq0b0u5l9ou2az00TG8y/DuwfpFbCUzH0yM91t4tve8fYXo07xTjVn1sbwhvI1q2quT"
        "ta4G+V5VatSQVT66w9UuO+Dxrl35vW6Wsxd9PzFBikE5IeS/1wPL6OAVPxXZnqeE+4jGbnU5+VKkVS/2uWPY4TU9QS2lAYEve5bs"
        "jTm1WFg6vyeubEnuDpb1B/5zvuB/1tLwn/3B7PcnxZd5HF0ibTOLX+j1OV3eLfJbE5fmPsic5NtXkswWmS68et1BnqrKBpePfXIn"
        "P36uuXihlKnr7FnBDZsDc7s0cy47yF+qjvwf5r/uVbCQee7JKYetxGTEpZnTbh8MZc0TST9ke6SZ5VPZlr/ld166+/+SKRWw+fdA"
        "yf2TYU9nyJ0X0WduNcntEz1y4NLvjy/PLLgTrH3tx5S5tjJX25Y/dFHw6p+9Q4m/95/zrkW5vT61fFeXrb72IVzxv3qlokOOUNdc"
        "fmPBA3HL5kleqL535OWnKKsgDTXZZN0d11/9MpwlPUvfV3h21Y6EGe4xe6NzuR89/V9esfKLPOOWaYnNH+q5D29oXtfE8cEkkvFh"
        "ldzub/OXHd2S+Pj9nV/+12u6r9p+eq/+oZe39PmiqzxGs+IjVP/sqEr5H7iUuc1u6cmLXy5O83qtMve2b3PSjctOVudnbtPh5daf"
        "eiTZ1sC59RpTjfkLndMnt3c9qtRk/lfq+m/v27VOcbqmHbvaVjKcznm+las9TldIi73K+F3vPYbptWe2mdWtdnVT266/xZFt3g03"
        "JkO1NbUbt6W3hcX/rwfCmwwAosZ8lA==",
    ),
    _Known(  # JPEG Lossless SV1
        "1.2.840.10008.1.2.4.70",
        16,
        12,
        False,
        0,
        "eNplk09M23YUx+38I8QJmJI/KwwWXIRoAiGbKKxh6+zwR9nEwaAIRShjCXCIEKrCYVvUcSB/bBARW9iJ0+QAh0hDrSNxyAFpJFmg"
        "2mVB2qQMRVosLj1sLUgV6qVk7+fuhn2x9Wx/Pu/7nm/qWE2FvTtu4Po3uKlX6jWM/GLi8wkMxzEMhxOrFzGCxKyYFcdbsPqvWDuU"
        "3h3/v4xpGzSYWq8i6+eYFpffuXn5tnM9/eJJ50mcEcpLQ+0GvrhCC2yvcZNzp9kDX5+56dXo6yedp2nherBtS1OcEqvLve2bairK"
        "7nvtJkI9nw+J3754/WnzQgWeMEzsTYmVx8PwhGLbs++1mTZL8/nA4Wx/B1BOs0I59KBtiy8Gc1WA6MapNJuZsZsJdewslPOPlK8H"
        "O0/2mExlabjdUFKueIRpm3Gz5M4GDmb7zElu9yr8aqFSXoJvTBRXctXHIDpObbMHM3ZTUr17Fjr0D1iSp9+B6V4wU10eNhpKVNST"
        "mbabdKVYNiTOOszJUuFy7eib+FSmsjzUvlVSROn9aZtJx81nA6KvHygFKXJkJbVNf6BATi4gkOn7KJCsDwWSHN+VwkdzA1qVoqvl"
        "fIu/CNJV9r5Rx1FpX8YHvYzHpFBuzqElCji55qFGgqLcqxr16pV7zUOvDgvUsTWautOoWr8dqb/fQpTyeISmyEaVm3Gm/gVRjyxa"
        "QqKzsuiVLJpwd1lTkz2tHUgUGgFRURYtIFESiZIpT3drI6eIZ6ARKguTtZshMCl05B8A0S5sw0O1NqoKUWeG/fpWoCUJ2xijWqAe"
        "dO6woPD9/owN6vNngUMQTXISHhmzQt0dtO6wPSad2p2f+lOHJg+iFgKJ0rIog0QhC0WaBUUXEu2XRSOyqBuJ9iDRKGTVZyZ+iP39"
        "861E7zQmYlGn4O0167iYFLz86qkLVgwlykmQKBKJMSCCQneDgs/xiLhWKg8sxHjhKkwDKKFgyNRktxFAaVr09lkIjeKi9sui03UW"
        "zs0NWBIKnNwY6wZQIUgLsMUwNCmcC6xa/uFH7z2F0SAQJYOcMohDIL/jPX1z7G3qeWjQJUXouRboiCF3PD0AckdZ0eswE7xCSh2/"
        "+fBczxdHnwGoC4FaZVBGBhUQ6KO7H2hGugTYUNflBuyINlFgnMKkDUCxdFj0Oy16Xnmv9vviUJthXbmQuhWtheCV+NrzxcFH+ut4"
        "UKyFP35IbnhkUBSBzDLoGEB6fj3/E4Deb2oY3duGGTM0zNhIQHRhMQAd8UomVV5evftSU4yWaxHXQwD1yqAAAuk1CBSCf785/uUx"
        "gDqaG+LFH3WwTKzgAxAXx8PHi842PR8PCrU3D6pN68p8+XL1k8/q9b/+A7BmuAs=",
    ),
    _Known(  # JPEG Lossless
        "1.2.840.10008.1.2.4.57",
        16,
        12,
        False,
        0,
        "eNqlk11IW2cYx0/Mp4mJUdMop0kWrNgQDkHwHYRqMc3J16wZweXiXORCI7qTsos6ROZKqdp8aDQNgdpiYMyTGGfujL3RwqA26sCS"
        "tsf0Yg5atEOXDtkH7XDI6tkT7O282Xtuzjk/3uf9v8///5xw2K4AO10n8N4OH9yP3C6m7HR84sB4PAzjwYNxeUymxPSYnserwbh1"
        "7Dyg0/VhMyYSigUYv0rJ/YRJ4K8I6h09NHgY62OBRGnoWbstxkVjczTuYBav4eHc0hfnxd+T6VSkf2vGRHnGKoIxNUHnLdd/tows"
        "0Mnm2fkb6Tc75HJGVk/oVxJWe7QB9eylC7yDybkAPpBYLGPWmpGdMwGuCEUbCHov/QMuKuPm2cUbL7XfqNqMVPbLx4IJVRO11udQ"
        "6MzPdXTSMbkQ0JWObxqHvcwVYbDeRLhy1kiVBgVS7SyS8z3bH1d/HXHaFU9mjL4lpkJYiRMUGx7d2xx928Uid6vryFlcjvR3qk3U"
        "lcHG4JSqhV7LO5P8Qp1lGxUueAA/SIU61UYfYKFM1UKxeecdJC9jd6vn6GHbJcOwN9e9H6xUGly58c1pTfvgHJwdq+vavsy+O/Ye"
        "Zq3jMonJRyX8IUWDmS7aRlI0LmLmr+n+UtyJau8bvau9VoG0FlG5tJyXj/EOZlN0ciDxW/y7fsXWXcK3NP7aXqk29LC3w3EkTjaP"
        "zQeSDgbw53bpXcK7Mv7aJgWcS4fjGhoHDLuZ34eGhzyHWX/miaRW70n0CWMN5q/Aj1S5o2U/3mV3ukMCtdK3kmvckGparrMLE29t"
        "z5GcdL24/KtWq2ozeaHhQYmqic71OXB+BOcXWm0sdOXlR59uaWcM1GqvcD1aS3jW0mK5jq5Gbr6riGIk4KfRcwYqOyhcn1AB7nPK"
        "wa4yZtGzR9+eIe3i7tX3lWcZ+sfFk2CMfMWwLLm833mfMFjGrI4pNeqdM0Pbi8h92vZDBi43dU/pczGNG1U4XO5gFC7XUdFR6oJI"
        "DN0E27yMP7NeDwpypDCmQaCA7eBxWAlEFshXpcMS1Ni4ek/ZZGEaN2VQ408IjW37Q2jefLackUoI/eqg3x5VmSHO7ppfdsn3kjOs"
        "jT+6dVyNCnW2IoqDBAgO498P1tdCcEjRtAaNlIMjv/BfCkf+lnOY9X8MxT+iW0wNzByNh2HmXlyC6Pqy3fshmGkX69+cRmIF5Gtg"
        "MhVIOjlu51+1IrR4",
    ),
    _Known(  # JPEG Extended
        "1.2.840.10008.1.2.4.51",
        16,
        12,
        False,
        13,
        "eNr795/hAQsDBPwDsncwMTD8v/H/AYOAl5unGwMjIwMDIxAy/L/N4MzAzMQEQkDAAkSsHKysLCysXOzsbBw8XDw83Fzc3Lx8QgK8"
        "fIJ83NwCYgKCwiKioqI8/OISYiISQiKiIv8PMnDzMCgwKDAyCjL8P8IgDjQfZAMC8PBycwElzAQYGJjY2ZiANkAlWNkYmVnYOTgF"
        "GZi4uIXF1RJ5REQVlVQMnYXUHZ1cxJSDChv/32LgAJlmzzBdnMHg7J7mM3L+8WF/72/buir3tklriuCe5qPrpLz+Rp96+dv0q//X"
        "3MQP0x6scn4ipV4gFL6w9Kt9d9S1OWv3prH4bDn7RL58v9ak/aFa1r9aazNPHThz2J3n9gmbiE8n41dXxtaYfvXS3XKNu5MlX+Ej"
        "d/vWr/krvmlHLRVzvRZXx7X3iXTZHt71q2tn718V/qovLOxfuFlU2if+Xf5TO+NXTYt7tzA+vn3q4pkPXNtC9jk+r39yYX/Yr66K"
        "7FdTIi13ZgdxeD+RK40xab21/WbtrL+Bqd9TLR6s8n4sXbyHpfXX9hv/GYT2H5/+M69lV6S/x0l/1x2nlzeejEiMrQ/6Vzlz1uTP"
        "3oZObAuP/lx9J/jInsTENRZXZPL7FduTa1gC9lnedAv6rKjRxlSXzcVqONuV1S20ff5BWc8/866rxWvPk5zwk32u/RRvt7Xf4oFB"
        "lndzgaT9JA7nJ3JFNhbTeqPf1J3NDrn7NO1Z6puDVzZsyEqsmbFPeeetvU8O9sx4ysq2Pirh416h33np9rnanaUujcm3D5vXzdJq"
        "7ZJgt9bYEich8OaAwbWPaudWLzhy7MqlrUGtk9UW54uzKc6bzD37uMmZoh0dfRuZsi3dNr+Q0nfo4d4Xvu3YF69P95vDlCMeTJ7R"
        "6l6jJBGtwxKvO9HRPcxIT5Rfl3GdqYR0L7vhMtdjzoUNjtv//78JAC01GA0=",
    ),
    _Known(  # JPEG Baseline
        "1.2.840.10008.1.2.4.50",
        8,
        8,
        False,
        12,
        "eNr795/hAQsDBPwDspmYGBj+3/j/gEHAy83TjYGRkYGBEQgZ/t9mcGZgZmICISBgASJWDlZWFhZWLnZ2Ng4eLh4ebi5ubl4+IQFe"
        "PkE+bm4BMQFBYRFRUVEefnEJMREJIRFRkf8HGLg5GBQYFBgZBRn+H2EQB5rMzIAMONjYOYESOgIMjEzM7CyMLDBpJkaghewMbBzK"
        "xo6BgkLCImKcRqZFQcFN/28xcIBcac8gf/lX9PLJx655QWnvYAi9QcvUZ/mMuF0bJu/+a/rFdr+G99MLZ1ZfnMwuzWqaO+3yn66Z"
        "K7apPM5Is315ZaX/y7x5/tKR2hA6SruzJyXmj1a1eVgo66dZswri0lTXLtKR2XF6+5HAYy0tti5Tj2RYzeRYHpoRwy5uqsz3I8z7"
        "Svmk3+fTxGeVfA/5lsa38kejz5yPJvbZvooWWbpNHPxF37pUt157dcdCkmWVUrpxnVysblPKo6TFSnfEZiYuEFUuODNVwMVVNGRq"
        "oKBgaI7X0fArxp+3POrS/9jctf/DRvlNdgIcnb+4XMvrk7ZZ5UfUo7l3/5FjRvptWn9nr9Zq+rHViOO+sdC1i0FGScy3H2k8dgrU"
        "a9F6ZCLL4DF51S7f5k7R5V+2+6v3rpmKSq/9//8mAAMVu44=",
    ),
    _Known(  # JPEG-LS Near-Lossless
        "1.2.840.10008.1.2.4.81",
        16,
        12,
        False,
        2,
        "eNoBggJ9/f7/AOAEAAAAAAAAAP7/AOBuAgAA/9j/9wALDAAgACABAREA/9oACAEBAAIAAOnWu7++7S96aKKq66q7LbbbLpF9/Npy"
        "O5riHEvJKILMMOMEHCBIgWQJkxaXWMTGsMYpzCCCGFmmnCBBAgQIkSRMYhKJjHMQhSlMY5yxTDhDrz5B8gQIkiyIpblTWZ3IYpzC"
        "GnOtunGHmniDxJZFVXcaZzuQhzHNECCyyjDTTTTjzy6RakbYiKxSkMYS8kogskows0s04uhVyNdxVdyHHntc97yCSSiSyzDDCMuy"
        "EuYrMYacIUtbXOeQSSQWUWaRKSJ9xdlmGGmnKUtbXOe8kogs0m9R2XpKKJKNNORnKVrW5xD3lFG0rSZJzXvKJJKKNRjKVkcpBDiC"
        "m03iLjnta5xBJJT9marFIYpxBDilk3oUpbWuc8kndmKyuQpjCHFZWq+hKlsKU5xH7dzVdyGMc0pKSNTc1ndzGELTuzM9yEIc5xXF"
        "sR7piqQpDFFJ/dqozFKUxpUjEJVsxWZylManbmYzEcpjG0JRVNu3MVnchy/T83EZiGMM4iK2RCTcxXcpCnFV7IiMQwyGY1qJ/3zF"
        "VSkMOKq31EZiOQ42kmiLNtzDMhCDFKqyTIZnIZlNYh2+7NEIQwpVX3IjM3MBGknkxHX2ZEIY7lW2ZCMzAwzansQ5etuZGIYrqtkR"
        "bRjCMKt2Zy26QhDCnVbaiMVBhBmlWxBSdfURCEGKVVki9OMYwjCvNmdbZkIxjlVb8tlmMMIyl5MxVWyJmMKUq+xSqEYxBmVqwjlV"
        "fYiEYxTuvTxMxjCMKbSJy27QjGFFVfUqwjMwgjLlaJ1W9EQhBCldU8mQxCGXAP/ZALnIHS8=",
    ),
    _Known(  # JPEG 2000
        "1.2.840.10008.1.2.4.91",
        16,
        12,
        False,
        54,
        "eNr795/hAQsDBPwDsicwMjD89/8fyKAJFlKAYhhA5TNyMzL+D2LgATEZWFmA5vyPYVB2mq4w7QMQHuhn6Gfoe9AeAIQZBaxA6F5+"
        "GQiT/qcwqDIwOhelJpakpigkVSr4F6TmeQW4uiuUpRYVZ+bnKRjpmeoZ/Z/AwAW2hZ2B8f/k4/8U2FjXLz/8n5Xx4H9Hhgf1BxRY"
        "pMWZnskzNh783uzwy8nxGxMDz1cr5skn+Zt0NQTaCyYefyTLfk2cf4OKylmWmGNbuY2mrXjjxs6vcsVYSfuk/pczm+6ouLauEwk7"
        "fYHz/I4weYsfv9wZYk9yVLzY8/zXi7Pia9ewpxwVf/eCfU6sR3Zq7y6F/Vy8elfTJztHhz/9WXj0l3GE7gfmFbbHr7nyL3hTq8Yw"
        "+/1J8b0sq7ZJu5777/xiLs9cFZU/2+/wnNxe/GCnlMatL3ois3covrvzSvX6fO4Le+e99VPwqUt9Vp44d7L6zrUXU1cFSXKmBzqv"
        "sKur83w16efqHqHFBxQen7H4fxMAVISkjQ==",
    ),
)
