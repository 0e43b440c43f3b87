"""The demonstration's end says what was found beside the truth, and what a script looks for stands in its last lines."""

import io
from pathlib import Path
from typing import Any

import pytest

from dicom_node.demo.report import Progress, compare, ending, nodule_table, oru, series_table, show
from inference.phantom import PhantomNodule

ORU = b"MSH|^~\\&|A|B|C|D|20260105||ORU^R01^ORU_R01|MSG1|P|2.5.1\rPID|1||PHANTOM-1^^^PHANTOMS^MR\r"
TRUTH = (
    PhantomNodule((-50.0, -60.0, 140.0), 20.0, "solid"),
    PhantomNodule((60.0, 20.0, 180.0), 5.0, "solid"),
)


def nodule(number: int, *centre: float, confidence: float | None = None) -> dict[str, Any]:
    return {
        "number": number,
        "centre_lps_mm": list(centre),
        "long_axis_mm": 9.44,
        "short_axis_mm": 8.0,
        "volume_mm3": 301,
        "mean_hu": 12,
        "confidence": confidence,
        "site": "right lung",
    }


def entry(nodules: list[dict[str, Any]] | None, status: str = "completed", reason: str = "") -> dict[str, Any]:
    return {
        "modality": "CT",
        "status": status,
        "slices_read": 240 if nodules is not None else 0,
        "nodules": nodules,
        "reason": {"code": "gap", "text": reason} if reason else None,
    }


def end(**changes: Any) -> str:
    given: dict[str, Any] = {
        "series": [entry([nodule(1, -48, -58, 141)])],
        "truth": TRUTH,
        "messages": [ORU],
        "answers": ["AA"],
        "no_message": "",
        "pictures": [Path("demo-output/pictures/study-1.png")],
    }
    return ending(**(given | changes))


def test_a_finding_hits_within_the_radius_or_three_millimetres() -> None:
    near, far = nodule(1, -50, -60, 149), nodule(2, -50, -60, 151)
    assert compare([near], TRUTH)[0].truth == TRUTH[0]
    assert compare([far], TRUTH)[0].truth is None
    assert compare([nodule(1, 62.9, 20, 180)], TRUTH)[0].truth == TRUTH[1]


def test_one_finding_hits_one_nodule_and_two_on_one_count_once() -> None:
    lines = compare([nodule(1, -50, -60, 145), nodule(2, -50, -60, 141)], TRUTH)
    assert [(c.found and c.found["number"], c.truth) for c in lines] == [(1, None), (2, TRUTH[0]), (None, TRUTH[1])]


def test_a_long_reason_goes_on_below_and_is_told_whole() -> None:
    reason = "32.5 mm are missing between two slices " * 5
    table = series_table([entry(None, "not_analysed", reason)])
    assert max(map(len, table.splitlines())) < 120
    assert table.count("32.5 mm") == 5


def test_the_last_lines_are_truth_and_oru_and_picture() -> None:
    assert end().splitlines()[-3:] == ["truth=2 found=1", "oru=AA", "demo-output/pictures/study-1.png"]


def test_other_peoples_files_have_no_truth() -> None:
    text = end(truth=None)
    assert "truth" not in text
    assert "right lung" in text


def test_without_a_message_the_reason_stands_in_its_place() -> None:
    passed_over = [entry(None, "passed_over", "a head")]
    text = end(messages=[], answers=[], no_message="not for us: a head", series=passed_over)
    assert text.splitlines()[-2] == "oru=none (not for us: a head)"


def test_a_refusal_among_the_answers_is_what_is_said() -> None:
    assert oru(["AA", "AE"], "") == "oru=AE"
    assert oru(["CA"], "") == "oru=CA"


def test_the_message_is_shown_for_people() -> None:
    assert "PHANTOM-1" in end()
    assert "|^~" not in end()


def test_what_is_shown_is_read_from_the_messages_that_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "0001.hl7").write_bytes(ORU)
    show([entry([])], (), [tmp_path / "0001.hl7"], "", [], tmp_path)
    said = capsys.readouterr().out
    assert str(tmp_path) in said
    assert said.splitlines()[-2:] == ["truth=0 found=0", "oru=AA"]


def test_a_finding_without_a_model_behind_it_has_no_confidence() -> None:
    lines = compare([nodule(1, -50, -60, 140), nodule(2, 0, 0, 0, confidence=0.5)], ())
    table = nodule_table(lines, with_truth=False)
    assert "no model" in table
    assert "0.50" in table


def test_progress_says_what_happened_and_when() -> None:
    stream = io.StringIO()
    progress = Progress(stream, iter(range(100)).__next__)
    progress.step("reading")
    progress.wait()  # no terminal: a clock would only fill the log
    for done in range(1, 101):
        progress.count("sent", done, 100)
    progress.step("study 1: done", at=7.25)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "[   1.0 s] reading"
    assert [line.split("] ")[1] for line in lines[1:-1]] == [
        f"sent: {n} of 100" for n in (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    ]
    assert lines[-1] == "[   7.2 s] study 1: done"
