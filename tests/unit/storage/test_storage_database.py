"""The file under the ledger: where it may lie, what it may be, and that it is the one that is open."""

import multiprocessing
import os
import re
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from storage.database import (
    Database,
    copy_database,
    create_database,
    file_system_of,
    newest_revision,
    refuse_network_file_system,
    sqlite_path,
)
from storage.errors import (
    LedgerCorrupt,
    LedgerMissing,
    LedgerOutdated,
    LedgerPlace,
    LedgerReplaced,
    LedgerUnavailable,
)
from storage.journal import Journal
from storage.ledger import Ledger
from storage.tables import metadata
from tests.ledgers import PACS, Books, arrival


def test_all_migrations_in_a_row_lead_to_the_tables(tmp_path: Path) -> None:
    database = create_database(tmp_path / "ledger.sqlite")
    plain = sa.create_engine(f"sqlite:///{tmp_path / 'plain.sqlite'}")
    metadata.create_all(plain)
    with database.read() as migrated, plain.connect() as made:
        assert compare_metadata(MigrationContext.configure(migrated, opts={"compare_type": True}), metadata) == []
        assert _schema(migrated) == _schema(made)
    plain.dispose()
    database.close()


def test_a_copy_has_what_still_stands_in_the_log_beside_the_file(tmp_path: Path) -> None:
    database = create_database(tmp_path / "ledger.sqlite")
    with database.write() as sql:
        sql.exec_driver_sql("CREATE TABLE fresh (word TEXT)")
        sql.exec_driver_sql("INSERT INTO fresh VALUES ('kept')")
    assert (tmp_path / "ledger.sqlite-wal").stat().st_size > 0
    copy_database(database.path, tmp_path / "copy.sqlite")
    database.close()
    assert os.stat(tmp_path / "copy.sqlite").st_mode & 0o077 == 0
    with sqlite3.connect(tmp_path / "copy.sqlite") as copy:
        assert copy.execute("SELECT word FROM fresh").fetchall() == [("kept",)]
    copy.close()
    with pytest.raises(FileExistsError):
        copy_database(database.path, tmp_path / "copy.sqlite")


def _schema(sql: sa.Connection) -> set[tuple[str, tuple[str, ...]]]:
    """Every table and index with the parts of its SQL; their order in it means nothing."""
    rows = sql.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'")
    return {(name, tuple(sorted(re.split(r"[\s,()]+", text)))) for name, text in rows}


def test_the_ledger_is_its_owners_alone_and_as_durable_as_sqlite_can(tmp_path: Path) -> None:
    database = create_database(tmp_path / "state" / "ledger.sqlite")
    assert os.stat(database.path).st_mode & 0o077 == 0
    with database.read() as sql:
        pragmas = {
            name: sql.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert database.check() == []
    database.require_schema()
    assert database.migrate() == newest_revision()
    database.close()


def test_no_ledger_is_never_made_by_opening_one(tmp_path: Path) -> None:
    with pytest.raises(LedgerMissing):
        Database(tmp_path / "ledger.sqlite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_file_says_that_it_must_be_rebuilt(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(content)
    with pytest.raises(LedgerCorrupt, match="rebuilt"):
        Database(tmp_path / "ledger.sqlite")


def test_a_page_that_broke_later_says_so_too(books: Books) -> None:
    books.file(*(arrival(n) for n in range(200)))
    books.database.close()
    sqlite3.connect(books.folder / "ledger.sqlite").execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    size = (books.folder / "ledger.sqlite").stat().st_size
    with (books.folder / "ledger.sqlite").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with pytest.raises(LedgerCorrupt):
        books.view()


def test_an_empty_file_asks_for_its_schema(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    database = Database(tmp_path / "ledger.sqlite")
    with pytest.raises(LedgerOutdated, match="migrate"):
        database.require_schema()
    database.close()


def test_a_newer_ledger_is_not_touched(tmp_path: Path) -> None:
    database = create_database(tmp_path / "ledger.sqlite")
    with database.write() as sql:
        sql.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerOutdated, match="newer"):
        database.migrate()
    database.close()


@pytest.mark.parametrize("fate", ["removed", "renamed", "replaced"])
@pytest.mark.parametrize("held", [False, True])
def test_a_role_whose_ledger_is_another_file_stops(books: Books, fate: str, held: bool) -> None:
    """Else it would go on writing into a file that nobody sees."""
    books.file(arrival(1))
    path = books.database.path

    def change() -> None:
        if fate == "removed":
            path.unlink()
        else:
            path.rename(path.with_suffix(".old"))
        if fate == "replaced":
            create_database(path).close()

    if held:
        with pytest.raises((LedgerReplaced, LedgerMissing)):
            _write_while(books, change)
    else:
        change()
    with pytest.raises((LedgerReplaced, LedgerMissing)):
        books.file(arrival(2))
    with pytest.raises((LedgerReplaced, LedgerMissing)):
        books.view()


def _write_while(books: Books, something_happens: Callable[[], object]) -> None:
    with books.database.write() as sql:
        sql.exec_driver_sql("DELETE FROM instances")
        something_happens()


def test_a_ledger_locked_for_too_long_says_that_nothing_was_written(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.database.BUSY_TIMEOUT_S", 0.01)
    second = Database(books.database.path)
    with books.database.write(), pytest.raises(LedgerUnavailable), second.write():
        pass
    second.close()


def test_what_fails_in_a_transaction_leaves_no_trace(books: Books) -> None:
    books.file(arrival(1))
    with pytest.raises(ZeroDivisionError):
        _write_while(books, lambda: 1 // 0)
    assert len(books.view().series[0].instances) == 1


def test_network_file_systems_are_refused(tmp_path: Path) -> None:
    mounts = f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n"
    assert file_system_of(tmp_path / "deep" / "ledger.sqlite", mounts) == "nfs4"
    with pytest.raises(LedgerPlace, match="nfs4"):
        refuse_network_file_system(tmp_path / "ledger.sqlite", mounts)
    assert file_system_of(Path("/elsewhere"), mounts) == "ext4"
    later = mounts + f"tmpfs {tmp_path} tmpfs rw 0 0\n"
    refuse_network_file_system(tmp_path / "ledger.sqlite", later)
    assert file_system_of(Path("/a b/c"), "x /a\\040b cifs rw 0 0\n") == "cifs"


def test_only_sqlite_files_are_served(tmp_path: Path) -> None:
    assert sqlite_path("", tmp_path) == tmp_path / "ledger.sqlite"
    assert sqlite_path("sqlite:////x/y.sqlite", tmp_path) == Path("/x/y.sqlite")
    for url in ("postgresql://u:secret@host/db", "sqlite://"):
        with pytest.raises(LedgerPlace) as refused:
            sqlite_path(url, tmp_path)
        assert "secret" not in str(refused.value)


STUDIES = 40


def _claim_all(
    folder: str, name: str, now: datetime, out: "multiprocessing.Queue[list[tuple[int, int, int | None]]]"
) -> None:
    """A worker and a courier in a process of their own: everything that they get."""
    database = Database(Path(folder) / "ledger.sqlite")
    ledger = Ledger(database, Journal(Path(folder) / "journal", "host", name, os.getpid()), name)
    got: list[tuple[int, int, int | None]] = []
    while claim := ledger.claim_study(name, 60, now, attempts_max=3):
        got.append((claim.study_number, claim.token, None))
    while delivery := ledger.claim_delivery("pacs", name, 60, now):
        ledger.connected(delivery, now)
        got.append((delivery.delivery.study_number, delivery.token, delivery.delivery.number))
    out.put(got)
    database.close()


def test_processes_that_race_for_claims_never_get_the_same_one(books: Books) -> None:
    for number in range(STUDIES):
        study = books.file(arrival(1, study=f"1.2.840.{number}"))
        if number < STUDIES // 2:
            books.read(study, to=[PACS])
        else:
            books.choose(study)
    context = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue[list[tuple[int, int, int | None]]] = context.Queue()
    racers = [
        context.Process(target=_claim_all, args=(str(books.folder), f"racer{n}", books.now, out)) for n in range(2)
    ]
    for racer in racers:
        racer.start()
    got = [one for _ in racers for one in out.get(timeout=120)]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    studies = [study for study, _, delivery in got if delivery is None]
    deliveries = [delivery for _, _, delivery in got if delivery is not None]
    assert sorted(studies) == list(range(STUDIES // 2 + 1, STUDIES + 1))
    assert sorted(deliveries) == list(range(1, STUDIES // 2 + 1))
    assert books.database.check() == []
