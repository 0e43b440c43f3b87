"""What a person looks at: plots that say when they are in sample, pictures with outlines where they belong, one file for all."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.errors import InSample, LearnMissing, NoSuchData
from inference.evaluation import plots
from inference.evaluation.calibration import reliability
from inference.evaluation.froc import froc
from inference.evaluation.page import figure, gallery, page, shown, table
from inference.evaluation.pictures import FOUND, TRUTH, disc, patch
from inference.evaluation.ranking import roc
from inference.training import lines
from inference.training.plan import Plan, Trained
from inference.training.tracking import loss_in, numbers_in, tracked

POSITIVE = np.arange(40) % 3 == 0
SCORE = np.linspace(0, 1, 40)
PLOTS: dict[str, Callable[[str], bytes]] = {
    "roc": lambda stamp: plots.roc_plot([("model", roc(POSITIVE, SCORE))], (0.2, 0.4), stamp),
    "calibration": lambda stamp: plots.calibration_plot(reliability(POSITIVE, SCORE), stamp),
    "confusion": lambda stamp: plots.confusion_plot([[5, 1], [2, 7]], ["no", "yes"], stamp),
    "froc": lambda stamp: plots.froc_plot(froc(SCORE, POSITIVE, 20, 8), (1.0, 0.5), stamp),
    "histogram": lambda stamp: plots.histogram_plot(list(SCORE), "Dice", stamp, (0, 1)),
}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_in_sample_says_so_across_its_middle(name: str) -> None:
    plain, stamped = (pixels(PLOTS[name](stamp)) for stamp in ("", "IN SAMPLE"))
    rows, columns = plain.shape[:2]
    middle = np.s_[rows // 4 : 3 * rows // 4, columns // 4 : 3 * columns // 4]
    assert (plain[middle] != stamped[middle]).any(axis=-1).mean() > 0.01


def test_a_picture_shows_the_truth_in_blue_and_the_finding_in_orange_around_their_masks() -> None:
    """A disc of 10 mm at (60, 40) of a slice with pixels of 0.8 x 0.5 mm, in the middle of a picture of 50 mm."""
    plane = np.full((120, 100), -850, np.int16)
    truth = disc(plane.shape, (0.8, 0.5), (60, 40), 5.0)
    found = disc(plane.shape, (0.8, 0.5), (60, 60), 5.0)
    picture = pixels(patch(plane, (0.8, 0.5), (60, 40), [(truth, TRUTH), (found, FOUND)]))
    rows, columns = np.nonzero((picture == TRUTH).all(axis=-1))
    middle = (len(picture) - 1) / 2
    assert abs(rows.mean() - middle) < 1
    assert abs(columns.mean() - middle) < 1
    assert np.ptp(rows) * 0.35 == pytest.approx(10, abs=1.2)
    assert np.ptp(columns) * 0.35 == pytest.approx(10, abs=1.2)
    right = np.nonzero((picture == FOUND).all(axis=-1))[1]
    assert (right.mean() - middle) * 0.35 == pytest.approx(10, abs=1.2)  # 20 columns of 0.5 mm
    beyond = pixels(patch(plane, (0.8, 0.5), (-200, 40)))
    assert (beyond == 0).all()


def test_a_page_needs_nothing_but_itself_and_takes_no_text_for_markup() -> None:
    png = PLOTS["confusion"]("")
    parts = [figure(png, "a < b"), gallery([], "None."), table(["n"], [["<script>"], [0.5], [None]])]
    text = page("Evaluation & more", "IN SAMPLE", parts)
    assert "<script" not in text
    assert "a &lt; b" in text
    assert "Evaluation &amp; more" in text
    assert "http" not in text
    assert text.count("IN SAMPLE") == 1
    assert (shown(0.5, [0.25, 0.75]), shown(None), shown(3)) == ("0.500 [0.250-0.750]", "-", "3")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (InSample("seen", "net"), 3),
        (NoSuchData("none", "here"), 2),
        (ValueError("odd"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_end_of_an_offline_process_is_a_line_and_the_promised_exit_code(
    fault: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(job: Any, say: Any) -> Any:
        say(f"job {job['n']}")
        raise fault

    monkeypatch.setattr("sys.stdin", io.StringIO('{"n": 7}\n'))
    assert lines.serve(work) == code
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[0] == {"event": "progress", "text": "job 7"}
    assert (told[1]["event"], told[1]["exit"]) == ("error", code)


def test_a_missing_library_is_said_before_the_work_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lines, "LEARN", ("sklearn", "no_such_library"))
    monkeypatch.setattr("sys.stdin", io.StringIO("{}\n"))
    assert lines.serve(lambda job, say: pytest.fail("it began")) == 2
    told = json.loads(capsys.readouterr().out)
    assert "no_such_library" in told["text"]
    assert "dicom-node[learn]" in told["text"]


def test_progress_and_metrics_are_what_tracking_records() -> None:
    assert loss_in("outline step 250/3000 loss 0.1234 watched Dice 0.7 n 30") == (250, 0.1234)
    assert loss_in("step 50 of 1000: loss 1e-05, 12 s") == (50, 1e-05)
    assert loss_in("outlines 100 of 722") is None
    assert dict(numbers_in({"dice": {"mean": 0.5, "ci": [0.4, 0.6]}, "n": 3, "ok": True})) == {
        "dice.mean": 0.5,
        "n": 3.0,
    }


def test_tracking_that_was_not_asked_for_changes_nothing_and_one_without_mlflow_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan("outliner", tmp_path, tmp_path, None, 1)
    heard: list[str] = []
    with tracked("", plan, heard.append) as (told, end):
        told("step 1 loss 2.0")
        end(Trained(True, None, None))
    assert heard == ["step 1 loss 2.0"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LearnMissing, match="mlflow"), tracked("file:runs", plan, heard.append):
        pass
