"""What tests share: the data folder, programs that are not ours. Missing ones skip at a desk and fail in CI."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[Any]) -> Iterator[None]:
    """A timeout may interrupt an instruction without a line number (CPython has some), and a report of that would end the
    whole run: such places get the line that their function begins on."""
    if call.excinfo is not None:
        call.excinfo = pytest.ExceptionInfo.from_exception(
            call.excinfo.value.with_traceback(_with_lines(call.excinfo.tb))
        )
    return (yield)


def _with_lines(trace: TracebackType | None) -> TracebackType | None:
    if trace is None:
        return None
    line: int | None = trace.tb_lineno
    return TracebackType(
        _with_lines(trace.tb_next), trace.tb_frame, trace.tb_lasti, line or trace.tb_frame.f_code.co_firstlineno
    )
