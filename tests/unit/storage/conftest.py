"""A ledger for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledgers import Books


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    """A fresh ledger with a journal."""
    opened = Books(tmp_path)
    yield opened
    opened.close()
