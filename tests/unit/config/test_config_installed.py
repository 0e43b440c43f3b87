"""Models that a site installed, beside those that came with the software."""

import json
from pathlib import Path

import pytest

from config.catalogue import (
    ENTRY_FILE,
    EVALUATION_FILE,
    Entry,
    Evaluation,
    catalogue,
    chain_digests,
    chain_entries,
    find_entry,
    installed,
    installed_entry,
    models_folder,
    shipped,
)
from config.errors import ConfigurationError
from config.load import load
from tests.installed import put_model


def test_an_installed_model_is_found_by_its_name_and_task_where_its_folder_is_given(tmp_path: Path) -> None:
    entry = put_model(tmp_path, "of-the-site")
    assert find_entry("of-the-site", "detector", tmp_path) == entry
    assert set(catalogue(tmp_path)) == {*shipped(), "of-the-site"}
    with pytest.raises(ConfigurationError, match="no detector of this name"):
        find_entry("of-the-site", "detector")
    with pytest.raises(ConfigurationError, match="no grader of this name"):
        find_entry("of-the-site", "grader", tmp_path)


def test_what_came_with_the_software_goes_before_a_folder_of_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "hessian-dot"
    folder.mkdir()
    (folder / ENTRY_FILE).write_text("{}")
    assert find_entry("hessian-dot", "detector", tmp_path) == shipped()["hessian-dot"]
    assert catalogue(tmp_path)["hessian-dot"] == shipped()["hessian-dot"]


@pytest.mark.parametrize("name", ["../models/of-the-site", "of-the-site/", "of-the-site\n", ".new-1"])
def test_a_name_is_no_path(name: str, tmp_path: Path) -> None:
    put_model(tmp_path / "models", "of-the-site")
    with pytest.raises(ConfigurationError, match="no detector of this name"):
        find_entry(name, "detector", tmp_path / "models")


def test_what_a_model_says_of_its_own_validation_does_not_count(tmp_path: Path) -> None:
    entry = put_model(tmp_path, "boastful", validation="measured", measured="Finds everything.")
    assert (entry.validation, entry.measured) == ("demonstration", "")


def test_an_evaluation_counts_for_the_weights_and_parameters_that_it_was_made_of(tmp_path: Path) -> None:
    entry = put_model(tmp_path, "of-the-site")
    said = Evaluation(digest=entry.digest(), measured="Evaluated at this site: 3 of 4.", metrics_sha256="0" * 64)
    (tmp_path / "of-the-site" / EVALUATION_FILE).write_text(said.model_dump_json())
    measured = installed_entry(tmp_path / "of-the-site")
    assert (measured.validation, measured.measured) == ("measured", "Evaluated at this site: 3 of 4.")
    file = tmp_path / "of-the-site" / ENTRY_FILE
    fields = json.loads(file.read_text())
    fields["parameters"]["candidates_max"] = 41
    file.write_text(json.dumps(fields))
    assert installed_entry(tmp_path / "of-the-site").validation == "demonstration"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"licens": "MIT"}, "licens: Extra inputs are not permitted"),
        ({"folder": "/tmp"}, "folder: no such field"),
        ({"name": "another"}, "not that of an installed model of this name"),
        ({"task": "oracle"}, "task"),
        ({"weights": "../other.safetensors"}, "weights"),
    ],
)
def test_a_wrong_entry_is_damaged_and_the_others_are_found(change: dict[str, str], said: str, tmp_path: Path) -> None:
    put_model(tmp_path, "fine")
    put_model(tmp_path, "wrong")
    file = tmp_path / "wrong" / ENTRY_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ConfigurationError, match=said):
        find_entry("wrong", "detector", tmp_path)
    found = installed(tmp_path)
    assert isinstance(found["fine"], Entry)
    assert isinstance(found["wrong"], ConfigurationError)
    assert "wrong" not in catalogue(tmp_path)


def test_the_digests_of_a_chain_change_with_any_part_of_it(tmp_path: Path) -> None:
    """With weights, parameters, version and validation of detector, lungs, outliner and grader: each is in the keys of results."""
    parts = {"lungs": "lungs-air", "outliner": "outline-seeded"}
    seen = set()
    number = 0

    def chain(**changed: dict[str, object]) -> tuple[str, ...]:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        for task, like in parts.items():
            put_model(folder, f"my-{task}", like, **changed.get(task, {}))
        put_model(folder, "my-grader", "outline-seeded", task="grader", **changed.get("grader", {}))
        names = {"lungs": "my-lungs", "outliner": "my-outliner", "grader": "my-grader"}
        put_model(folder, "my-detector", **{**names, **changed.get("detector", {})})
        return chain_digests("my-detector", folder)

    assert chain() == chain()
    seen.add(chain())
    for task in ("detector", "lungs", "outliner", "grader"):
        for change in ({"seed": 1}, {"version": "9.9"}, {"parameters": {"other": 1.0}}, {"kind": "other"}):
            seen.add(chain(**{task: change}))
    assert len(seen) == 1 + 4 * 4
    assert len(chain()) == 4
    assert len(chain(detector={"grader": ""})) == 3


def test_the_digest_of_a_chain_changes_when_it_was_measured(tmp_path: Path) -> None:
    """Results say so, and two that differ have different keys."""
    entry = put_model(tmp_path, "of-the-site")
    before = chain_digests("of-the-site", tmp_path)
    said = Evaluation(digest=entry.digest(), measured="3 of 4.", metrics_sha256="0" * 64)
    (tmp_path / "of-the-site" / EVALUATION_FILE).write_text(said.model_dump_json())
    assert chain_digests("of-the-site", tmp_path) != before


def test_a_part_that_is_missing_is_named(tmp_path: Path) -> None:
    put_model(tmp_path, "of-the-site", grader="none-such")
    with pytest.raises(ConfigurationError, match="none-such: no grader of this name"):
        chain_entries("of-the-site", tmp_path)


def test_the_settings_may_name_what_is_installed_and_nothing_else(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[site]\ntimezone = "UTC"\n[paths]\nstate = "{tmp_path}"\n[read]\ndetector = "of-the-site"\n', encoding="utf-8"
    )
    with pytest.raises(ConfigurationError, match=r"read\.detector = 'of-the-site'.*models install"):
        load(config, {})
    assert load(config, {}, detector=False).read.detector == "of-the-site"
    put_model(models_folder(str(tmp_path)), "of-the-site")
    assert load(config, {}).read.detector == "of-the-site"
