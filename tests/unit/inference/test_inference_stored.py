"""A catalogue entry with other weights is loaded like any other, and says that it is another."""

import hashlib
from pathlib import Path

import pytest

from config.catalogue import find_entry
from inference.errors import ModelRefused
from inference.stored import verify_weights, weights_file, with_weights


def test_an_entry_with_other_weights_names_these_and_computes_with_the_parameters_that_it_had(tmp_path: Path) -> None:
    entry = find_entry("outline-unet", "outliner")
    file = tmp_path / "outline-unet.3.safetensors"
    file.write_bytes(b"weights")
    other = with_weights(entry, file)
    assert weights_file(other) == file
    assert (other.sha256, other.size_bytes) == (hashlib.sha256(b"weights").hexdigest(), 7)
    assert (other.name, other.parameters) == (entry.name, entry.parameters)
    assert other.digest() != entry.digest()
    verify_weights(other)
    file.write_bytes(b"others!")
    with pytest.raises(ModelRefused):
        verify_weights(other)


def test_parameters_that_a_training_left_as_lists_have_the_digest_of_those_of_the_catalogue(tmp_path: Path) -> None:
    entry = find_entry("outline-unet", "outliner")
    file = tmp_path / "new.safetensors"
    file.touch()
    left = {name: list(v) if isinstance(v, tuple) else v for name, v in entry.parameters.items()}
    assert any(isinstance(value, list) for value in left.values())
    assert with_weights(entry, file, left).parameters == entry.parameters
    assert with_weights(entry, file, {"threshold": 0.1}).number("threshold") == 0.1


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused):
        with_weights(find_entry("outline-unet", "outliner"), tmp_path / "nowhere.safetensors")
