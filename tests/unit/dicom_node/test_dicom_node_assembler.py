"""Completeness is proof, or waiting."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from config.settings import Assembly, Settings, Site
from dicom_node.assembler import Assembler, evidence_of
from inference.headers import Header
from storage.rows import AssociationRow, InstanceRow, SeriesRow
from storage.spool import Spool
from storage.states import SeriesState, StudyState
from tests.ledgers import NOON, Books, arrival

RULES = Assembly(proof_quiet_s=5, quiet_s=60, aborted_quiet_s=900, wait_s_max=5400)
SETTINGS = Settings(site=Site(timezone="UTC"), assembly=RULES)


def header(number: int) -> Header:
    return Header(
        sop_instance_uid=f"1.2.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        series_instance_uid="1.2",
        study_instance_uid="1.1",
        modality="CT",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        instance_number=number,
        rows=64,
        columns=64,
        pixel_spacing=(1.0, 1.0),
        slice_thickness=2.0,
        position=(0.0, 0.0, 2.0 * number),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        frame_of_reference_uid="1.9",
        has_pixels=True,
    )


def series(*numbers: int, associations: tuple[AssociationRow, ...] = (), **values: object) -> SeriesRow:
    instances = tuple(
        InstanceRow(
            n,
            f"1.2.{n}",
            "1.2.840.10008.5.1.4.1.1.2",
            "",
            "1.2",
            f"images/{n}.dcm",
            1,
            str(n),
            json.dumps(header(n).to_json()),
            "",
            "p1",
            1,
            "",
            NOON,
        )
        for n in numbers
    )
    row = SeriesRow(
        1,
        "1.2",
        "CT",
        "image",
        SeriesState.RECEIVING,
        None,
        "",
        "",
        "",
        0,
        "",
        "",
        1,
        False,
        NOON,
        NOON,
        instances,
        associations,
    )
    return replace(row, **values)  # type: ignore[arg-type]


RELEASED = AssociationRow("a", "PACS", "released", 100, 100)


def evidence(row: SeriesRow, after_s: float, oldest_incoming_s: float | None = None) -> str:
    oldest = NOON + timedelta(seconds=oldest_incoming_s) if oldest_incoming_s is not None else None
    return evidence_of(row, NOON, oldest, SETTINGS, NOON + timedelta(seconds=after_s))


def test_released_associations_and_no_gap_prove_a_series_after_a_short_quiet() -> None:
    row = series(*range(1, 101), associations=(RELEASED,))
    assert evidence(row, 4) == ""
    assert "released" in evidence(row, 5)


@pytest.mark.parametrize(
    "row",
    [
        series(*range(1, 50), *range(51, 101), associations=(RELEASED,)),
        series(*range(1, 101), associations=(replace(RELEASED, outcome="open"),)),
        series(*range(1, 101), associations=(replace(RELEASED, filed=99),)),
        series(*range(1, 101), associations=(RELEASED, replace(RELEASED, name="b", outcome="aborted"))),
        series(*range(1, 101), associations=()),
        series(*range(1, 101), associations=(RELEASED,), quiet_only=True),
    ],
    ids=[
        "a gap",
        "an open association",
        "a file not yet filed",
        "the last one aborted",
        "no association known",
        "a reader found it cut",
    ],
)
def test_without_proof_only_the_quiet_period_completes_it(row: SeriesRow) -> None:
    aborted = any(a.outcome == "aborted" for a in row.associations)
    assert evidence(row, 59) == ""
    assert ("quiet" in evidence(row, 60)) is not aborted
    assert "quiet" in evidence(row, 900)


def test_the_quiet_period_does_not_end_while_older_files_wait_to_be_filed() -> None:
    row = series(*range(1, 50), *range(60, 101), associations=(RELEASED,))
    assert evidence(row, 61, oldest_incoming_s=30) == ""
    assert "quiet" in evidence(row, 61, oldest_incoming_s=60.5)


def test_nothing_waits_for_ever() -> None:
    row = series(1, 5, associations=(replace(RELEASED, outcome="open"),), last_at=NOON + timedelta(seconds=5390))
    assert "waited" in evidence(row, 5400, oldest_incoming_s=0)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path)
    yield made
    made.close()


def test_a_study_is_chosen_from_once_its_own_clock_is_quiet_too(tmp_path: Path, books: Books) -> None:
    """The study's clock counts every instance; a dose report that comes late restarts it."""
    assembler = Assembler(SETTINGS, Spool(tmp_path / "spool"), books.ledger)
    study = books.file(
        *(arrival(n, study="1.1", series="1.2", header=json.dumps(header(n).to_json())) for n in range(1, 101))
    )
    books.later(50)
    books.file(arrival(900, study="1.1", series="1.7", kind="set_aside", at=books.now, header="{}"))
    assembler.turn(books.later(11))
    assert books.view().series[0].state is SeriesState.COMPLETE
    assert books.state(study) is StudyState.OPEN
    assembler.turn(books.later(20))
    assert books.state(study) is not StudyState.OPEN
