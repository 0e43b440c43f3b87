"""A MONAI bundle as a site has it from its publisher: fetched, installed, chosen, loaded by the reader, and left as it was."""

import hashlib
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from config.catalogue import find_entry, models_folder
from config.load import load
from dicom_node.cli import cli
from dicom_node.reading import ReadingRoom
from inference.bundle_digest import bundle_digest
from inference.stored import verify_weights, weights_file
from tests.file_server import file_server
from tests.unit.inference.made_bundle import planted_weights, write_bundle


def test_a_published_bundle_is_read_with_after_two_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = write_bundle(tmp_path / "lung_nodule_ct_detection", planted_weights())
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as package:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            package.write(file, file.relative_to(tmp_path))
    content = (tmp_path / "bundle.zip").read_bytes()
    config = tmp_path / "config.toml"
    text = f'[site]\ntimezone = "UTC"\n[paths]\nstate = "{tmp_path / "state"}"\n[disk]\nfree_mib_min = 64\nreserve_mib = 32\n'
    config.write_text(text + '[read]\ndetector = "lung-nodule-ct-detection"\ndevice = "cpu"\n')
    with file_server() as server:
        server.files = {"/bundle.zip": content}
        server.cuts = [len(content) // 2]
        sha256 = hashlib.sha256(content).hexdigest()
        arguments = ["--config", str(config), "models", "install", server.url("/bundle.zip"), "--sha256", sha256]
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        assert len(server.asked) == 2
    settings = load(config, {})
    entry = find_entry(settings.read.detector, "detector", models_folder(settings.paths.state))
    assert entry.sha256 == bundle_digest(folder)
    assert entry.validation == "demonstration"
    room = ReadingRoom(settings, tmp_path / "scratch")
    try:
        room.warm()
    finally:
        room.close()
    verify_weights(entry)
    assert list(weights_file(entry).rglob("__pycache__")) == []
