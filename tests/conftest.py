"""What tests share: the data folder, programs that are not ours. Missing ones skip at a desk and fail in CI."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.tools import PeerMissing, program

REPOSITORY = Path(__file__).resolve().parents[1]


def missing(what: str) -> None:
    """Skip, but fail where nothing may be missing (CI=true)."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI=true allows no skipping")
    pytest.skip(f"{what} is missing")


def shared_folder() -> Path:
    """The folder of public data for tests; need not exist."""
    return Path(os.environ.get("DICOM_NODE_SHARED", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public CTs, crops, X-rays and odd files; see its README."""
    folder = shared_folder()
    if not folder.is_dir():
        missing("the shared data folder (DICOM_NODE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def peer_program() -> Callable[[str], str]:
    """`peer_program("storescu")` is the path of a program that is not ours."""

    def find(name: str) -> str:
        try:
            return program(name)
        except PeerMissing as error:
            missing(str(error))
            raise

    return find
