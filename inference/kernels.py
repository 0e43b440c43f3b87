"""How soft a reconstruction kernel is, by the names that the makers give: soft kernels come first, for sharp ones make noise
look like small nodules.

Scale: 0 very smooth, 1 standard body, 2 between (made for lung and body alike), 3 lung or high resolution, 4 bone and inner ear; 1.5
where the name tells nothing, so that an unknown kernel comes after a known soft one and before a known sharp one.
"""

import re
from collections.abc import Mapping
from typing import Final

UNKNOWN: Final = 1.5

# GE: words. Toshiba/Canon: FC01-FC09 and FC10-FC19 body, FC20-FC29 head, FC30-FC39 bone, FC50-FC59 lung, FC80-FC89 high resolution.
# Philips: letters, A smooth to E sharp, L lung, YA-YE, UA-UC. Siemens: B or Br, Bl, Qr with a number that rises with sharpness.
WORDS: Final[Mapping[str, float]] = {
    "SOFT": 0.0,
    "SMOOTH": 0.0,
    "STANDARD": 1.0,
    "STND": 1.0,
    "STD": 1.0,
    "BODY": 1.0,
    "CHEST": 2.0,
    "DETAIL": 2.0,
    "LUNG": 3.0,
    "EDGE": 4.0,
    "BONE": 4.0,
    "BONEPLUS": 4.0,
    "ULTRA": 4.0,
    "HD LUNG": 3.0,
    "SHARP": 3.0,
}
PHILIPS: Final[Mapping[str, float]] = {
    "A": 0.0,
    "SA": 0.0,
    "SB": 0.5,
    "B": 1.0,
    "XRES STANDARD": 1.0,
    "CB": 1.5,
    "C": 2.0,
    "CC": 2.0,
    "XCA": 1.0,
    "XCB": 1.0,
    "XCC": 2.0,
    "L": 3.0,
    "D": 3.0,
    "YA": 3.0,
    "YB": 3.0,
    "YC": 3.5,
    "YD": 4.0,
    "YE": 4.0,
    "E": 4.0,
    "F": 4.0,
    "UA": 1.0,
    "UB": 1.0,
    "UC": 2.0,
    "IMR1": 1.0,
    "BODY STANDARD": 1.0,
    "SHARP PLUS": 3.0,
}


def softness(kernel: str, manufacturer: str = "") -> float:
    """0 (soft) to 4 (sharp); UNKNOWN where the name tells nothing. The first of several values counts."""
    name = kernel.upper().split("\\")[0].strip()
    maker = manufacturer.upper()
    if "PHILIPS" in maker and name in PHILIPS:
        return PHILIPS[name]
    for known in (_siemens(name), _canon(name), _named(name)):
        if known is not None:
            return known
    return PHILIPS.get(name, UNKNOWN)


def _siemens(name: str) -> float | None:
    """B31f, Br40d, I30f, Bl57, Qr36, Bv40, T20f: the number is sharpness, 10 to 90; Bl is made for lung."""
    match = re.match(r"^(BR|BL|BV|BF|QR|HR|B|I|U|D|T)\s?([1-9][0-9])[A-Z]{0,2}\b", name)
    if match is None:
        return None
    sharpness = int(match[2])
    for limit, soft in ((26, 0.0), (34, 0.5), (45, 1.0), (49, 1.5), (54, 2.0), (69, 3.0)):
        if sharpness <= limit:
            return max(soft, 2.0) if match[1] == "BL" else soft
    return 4.0 if sharpness >= 80 else 3.0


def _canon(name: str) -> float | None:
    """FC08, FC51, FL03 and so on; the tens say the purpose."""
    match = re.match(r"^F(C|L)\s?([0-9]{2})", name)
    if match is None:
        return None
    tens = int(match[2]) // 10
    return {0: 0.5, 1: 1.0, 2: 1.0, 3: 4.0, 4: 1.0, 5: 3.0, 6: 1.5, 7: 1.5, 8: 3.5, 9: 1.5}[tens]


def _named(name: str) -> float | None:
    """GE and all who use words; the sharpest word of the name counts ("LUNG/STANDARD" is no soft one)."""
    if name in WORDS:
        return WORDS[name]
    found = [WORDS[word] for word in re.split(r"[^A-Z]+", name) if word in WORDS]
    return max(found) if found else None
