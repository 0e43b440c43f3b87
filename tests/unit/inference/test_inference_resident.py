"""The resident reader as the worker sees it: a process, lines in, lines out."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.catalogue import chain_digests
from inference.decoder import FACTS, FORMAT, VOXELS
from inference.kept import load_reading
from inference.volume import Volume, to_json

from .balls import chest, volume_of

Reader = subprocess.Popen[str]


def put(volume: Volume, folder: Path) -> Path:
    """A volume as the decoder leaves it."""
    folder.mkdir()
    with (folder / VOXELS).open("wb") as file:
        np.save(file, volume.hu)
    (folder / FACTS).write_text(json.dumps({"format": FORMAT, **to_json(volume)}))
    return folder


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with subprocess.Popen(
        [sys.executable, "-m", "inference.resident", "--entry", "hessian-dot", "--device", "cpu"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        chain = list(chain_digests("hessian-dot"))
        assert heard(process) == {"event": "ready", "entry": "hessian-dot", "device": "cpu", "chain": chain}
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


def heard(process: Reader) -> dict[str, Any]:
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


def ask(process: Reader, **job: Any) -> list[dict[str, Any]]:
    """Everything the reader says to one job."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    said = [heard(process)]
    while said[-1]["event"] == "progress":
        said.append(heard(process))
    return said


def test_a_job_ends_with_a_kept_reading_and_its_seconds(reader: Reader, tmp_path: Path) -> None:
    volume = chest([((70.0, 80.0, 60.0), 12.0, 40.0)])
    job = {
        "volume": str(put(volume, tmp_path / "v")),
        "out": str(tmp_path / "r.json"),
        "nodules_max": 5,
        "decode_s": 1.5,
    }
    *progress, done = ask(reader, **job)
    assert done["event"] == "done"
    assert {said["stage"] for said in progress} == {"lungs", "detect", "outline"}
    reading = load_reading(tmp_path / "r.json")
    assert [n.site for n in reading.nodules or ()] == ["right lung"]
    assert reading.seconds == done["seconds"]
    assert reading.seconds["decode"] == 1.5


def test_what_the_pixels_show_is_turned_away_with_its_outcome(reader: Reader, tmp_path: Path) -> None:
    whole = chest()
    belly = volume_of(np.full((20, 60, 60), 40, np.int16), whole.affine)
    cut = volume_of(whole.hu[20:], whole.affine)
    for n, (volume, may_wait, outcome, code) in enumerate(
        [
            (belly, False, "passed_over", "no_lung"),
            (cut, False, "declined", "lungs_cut"),
            (cut, True, "wait", "lungs_cut"),
        ]
    ):
        folder = put(volume, tmp_path / f"v{n}")
        said = ask(reader, volume=str(folder), out=str(tmp_path / "r.json"), nodules_max=5, may_wait=may_wait)[-1]
        assert (said["event"], said["outcome"], said["code"]) == ("turned_away", outcome, code)
        assert said["text"]
        assert not (tmp_path / "r.json").exists()


def test_a_job_that_fails_is_said_and_the_next_is_read(reader: Reader, tmp_path: Path) -> None:
    failed = ask(reader, volume=str(tmp_path / "none"), out=str(tmp_path / "r.json"))[-1]
    assert failed["event"] == "error"
    assert failed["code"]
    volume = put(chest(), tmp_path / "v")
    assert ask(reader, volume=str(volume), out=str(tmp_path / "r.json"))[-1]["event"] == "done"


def test_an_unknown_entry_is_said_before_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inference.resident", "--entry", "hessian-dor"],
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert said["event"] == "error"
    assert "hessian-dot" in said["text"]
