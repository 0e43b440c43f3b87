import pytest

from hl7.errors import FrameError
from hl7.mllp import Deframer, frame


def test_a_message_comes_out_as_it_went_in() -> None:
    assert Deframer().feed(frame(b"MSH|^~\\&|A\rMSA|AA|1\r")) == [b"MSH|^~\\&|A\rMSA|AA|1\r"]


def test_two_messages_in_one_read_are_two() -> None:
    frames = Deframer()
    assert frames.feed(frame(b"one") + frame(b"two") + b"\x0bthr") == [b"one", b"two"]
    assert frames.feed(b"ee\x1c\r") == [b"three"]


def test_an_end_that_is_split_over_two_reads_is_an_end() -> None:
    frames = Deframer()
    assert frames.feed(b"\x0bone\x1c") == []
    assert frames.feed(b"\r") == [b"one"]


def test_bytes_between_frames_are_counted_and_harm_nothing() -> None:
    frames = Deframer()
    assert frames.feed(b"\r\n" + frame(b"one") + b"\r\n" + frame(b"two")) == [b"one", b"two"]
    assert frames.stray == 4


def test_a_frame_that_was_broken_off_gives_way_to_the_next() -> None:
    frames = Deframer()
    assert frames.feed(b"\x0bMSH|half" + frame(b"whole")) == [b"whole"]


def test_an_end_without_a_start_is_no_message() -> None:
    frames = Deframer()
    assert frames.feed(b"MSA|AA|1\x1c\r") == []
    assert frames.stray == 8


def test_a_frame_without_end_is_given_up_at_the_bound() -> None:
    frames = Deframer(bytes_max=10)
    frames.feed(b"\x0b123456789")
    with pytest.raises(FrameError, match="at most 10"):
        frames.feed(b"0")


def test_a_message_with_framing_bytes_inside_cannot_be_framed() -> None:
    for bad in (b"a\x0bb", b"a\x1cb"):
        with pytest.raises(FrameError, match="0x0B or 0x1C"):
            frame(bad)
