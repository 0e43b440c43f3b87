import pytest

from inference import pixels
from inference.decoder_check import KNOWN, failing_decoders


@pytest.mark.filterwarnings("ignore")
def test_the_installed_decoders_give_the_values_that_they_must() -> None:
    assert failing_decoders() == ()


def test_every_pinned_decoder_is_asked_but_for_high_throughput_jpeg_2000() -> None:
    untested = {"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"}
    assert {known.transfer_syntax_uid for known in KNOWN} == set(pixels.DECODERS) - untested


@pytest.mark.filterwarnings("ignore")
def test_a_missing_decoder_and_wrong_values_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.pixels.DECODERS", {**pixels.DECODERS, "1.2.840.10008.1.2.4.80": "not installed"})
    assert failing_decoders() == ("JPEG-LS Lossless Image Compression",)
    monkeypatch.undo()
    monkeypatch.setattr(
        "inference.decoder_check.decode_frame", lambda frame, syntax, layout: pixels.np.zeros((32, 32), int)
    )
    assert len(failing_decoders()) == len({known.transfer_syntax_uid for known in KNOWN})
