import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage.associations import Associations, Marker, ProcessName, association_of
from storage.refusals import ENTRIES_MAX, Refusal, Refusals

AT = datetime(2026, 1, 5, 10, 15, tzinfo=UTC)


@pytest.fixture
def associations(tmp_path: Path) -> Associations:
    return Associations(tmp_path)


def dead_process() -> ProcessName:
    """A process of this host that has just ended."""
    code = "from storage.associations import ProcessName; print(ProcessName.of_this_process())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ProcessName.parse(said.stdout.strip())


def test_a_process_knows_itself_and_that_another_has_ended() -> None:
    here = ProcessName.of_this_process()
    assert here.pid == os.getpid()
    assert ProcessName.parse(str(here)) == here
    assert here.alive() is True
    assert dead_process().alive() is False
    assert replace(here, boot="00000000ff").alive() is False  # the same number in another life
    assert replace(here, host="elsewhere").alive() is None


def test_a_marker_tells_who_brought_how_much_and_how_it_ended(associations: Associations) -> None:
    association = associations.open(calling_ae="CT1", called_ae="NODE", address="10.0.0.1", at=AT)
    (marker,) = associations
    assert (marker.state, marker.calling_ae, marker.ended()) == ("open", "CT1", None)
    for _ in range(2):
        association.next_name()
        association.kept()
    association.next_name()  # refused: not kept
    association.close("released", AT + timedelta(seconds=3), "released")
    marker = associations.get(association.name)
    assert marker == Marker(
        association.name, "released", "CT1", "NODE", "10.0.0.1", AT, AT + timedelta(seconds=3), 2, "released"
    )
    assert marker.ended() == "released"
    associations.forget(association.name)
    assert list(associations) == []


def test_names_are_never_given_twice_and_lead_back_to_their_association(associations: Associations) -> None:
    first, second = (
        associations.open(calling_ae="A", called_ae="B", address="", at=AT),
        associations.open(calling_ae="A", called_ae="B", address="", at=AT),
    )
    names = [first.next_name(), first.next_name(), second.next_name(), second.next_name()]
    assert len(set(names)) == 4
    assert {association_of(name) for name in names} == {first.name, second.name}
    assert association_of(names[0] + ".dcm") == first.name


def test_an_open_marker_of_a_dead_process_counts_as_aborted(associations: Associations) -> None:
    associations.process = dead_process()
    association = associations.open(calling_ae="A", called_ae="B", address="", at=AT)
    marker = associations.get(association.name)
    assert marker is not None
    assert (marker.state, marker.ended()) == ("open", "aborted")


def test_an_end_counts_more_than_a_beginning_that_a_crash_left(associations: Associations) -> None:
    association = associations.open(calling_ae="A", called_ae="B", address="", at=AT)
    beginning = (associations.folder / f"{association.name}.open").read_bytes()
    association.close("aborted", AT)
    (associations.folder / f"{association.name}.open").write_bytes(beginning)
    (marker,) = associations
    assert marker.state == "aborted"


def test_a_damaged_marker_is_none(associations: Associations) -> None:
    (associations.folder / "host-boot-1-1.open").write_text("{")
    assert list(associations) == []


def refusal(calling: str = "X", second: int = 0) -> Refusal:
    return Refusal(calling, "NODE", "10.0.0.9", "calling AE title not recognised", AT + timedelta(seconds=second))


def test_a_refused_caller_is_listed_once_with_its_count_latest_first(tmp_path: Path) -> None:
    refusals = Refusals(tmp_path, ProcessName.of_this_process())
    assert [refusals.note(one) for one in (refusal("X", 0), refusal("Y", 1), refusal("X", 2))] == [1, 1, 2]
    assert [(one.calling_ae, one.count) for one in refusals] == [("X", 2), ("Y", 1)]


def test_the_list_of_refused_callers_is_bounded(tmp_path: Path) -> None:
    refusals = Refusals(tmp_path, ProcessName.of_this_process())
    for number in range(ENTRIES_MAX + 5):
        refusals.note(refusal(f"AE{number}", number))
    assert len(list(refusals)) == ENTRIES_MAX
    assert next(iter(refusals)).calling_ae == f"AE{ENTRIES_MAX + 4}"


def test_the_list_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    Refusals(tmp_path, dead_process()).note(refusal("X"))
    refusals = Refusals(tmp_path, ProcessName.of_this_process())
    refusals.take_over()
    assert refusals.note(refusal("X", 5)) == 2
    assert [(one.calling_ae, one.count) for one in refusals] == [("X", 2)]
    assert len(list(tmp_path.iterdir())) == 1
