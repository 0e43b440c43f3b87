"""The catalogue of methods and models: typed, complete, and honest about what is known of each."""

from pathlib import Path

import pytest

from config.catalogue import (
    CATALOGUE_FILE,
    Entry,
    catalogue,
    chain_entries,
    find_entry,
    parameters_digest,
    read_catalogue,
)
from config.errors import ConfigurationError
from config.settings import Read
from tests.conftest import REPOSITORY


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """The shipped catalogue with one thing changed."""
    text = CATALOGUE_FILE.read_text(encoding="utf-8")
    assert old in text
    file = tmp_path / "catalogue.toml"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    return file


def test_the_detector_that_ships_says_that_it_is_a_demonstration() -> None:
    entry = find_entry("hessian-dot", "detector")
    assert entry.validation == "demonstration"
    assert "technical demonstration, unvalidated detector" in entry.text.lower()


def test_the_default_of_the_settings_is_in_the_catalogue() -> None:
    assert find_entry(Read().detector, "detector").name == Read().detector


def test_every_part_of_the_default_chain_was_measured_and_has_a_card() -> None:
    for entry in chain_entries(Read().detector):
        assert entry.validation == "measured"
        card = REPOSITORY / entry.measured
        assert entry.measured.endswith(".md")
        assert card.read_text(encoding="utf-8").startswith(f"# {entry.name}")


def test_every_detector_names_the_lungs_and_outlines_of_its_chain() -> None:
    for entry in catalogue().values():
        if entry.task == "detector":
            assert find_entry(entry.lungs, "lungs")
            assert find_entry(entry.outliner, "outliner")


def test_a_method_without_weights_is_known_by_its_parameters(tmp_path: Path) -> None:
    for entry in catalogue().values():
        assert entry.weights or entry.sha256 == parameters_digest(entry.parameters)
    with pytest.raises(ConfigurationError, match="sha256 is not that of its parameters"):
        read_catalogue(changed(tmp_path, "candidates_max = 40", "candidates_max = 41"))


def test_a_misspelt_field_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"hessian-dot.*licens"):
        read_catalogue(changed(tmp_path, "licence =", "licens ="))


def test_a_detector_without_lungs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="lungs = 'lungs-none' names no entry"):
        read_catalogue(changed(tmp_path, 'lungs = "lungs-air"', 'lungs = "lungs-none"'))


def test_one_name_stands_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="two entries of this name"):
        read_catalogue(changed(tmp_path, 'name = "lungs-air"', 'name = "hessian-dot"'))


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="the nearest is hessian-dot"):
        find_entry("hesian-dots", "detector")


def test_an_entry_of_another_task_is_not_found() -> None:
    with pytest.raises(ConfigurationError, match="no detector of this name"):
        find_entry("lungs-air", "detector")


def test_a_missing_parameter_is_named() -> None:
    entry = find_entry("hessian-dot", "detector")
    assert entry.number("candidates_max") == 40
    assert len(entry.numbers("scales_mm")) == len(entry.numbers("responses_min"))
    with pytest.raises(ConfigurationError, match="no parameter scale_mm"):
        entry.number("scale_mm")
    with pytest.raises(ConfigurationError, match="no parameter candidates_max that is a list"):
        entry.numbers("candidates_max")


def test_an_entry_never_changes() -> None:
    with pytest.raises(ValueError, match="frozen"):
        find_entry("hessian-dot", "detector").name = "other"  # type: ignore[misc]
    assert isinstance(find_entry("hessian-dot", "detector"), Entry)
