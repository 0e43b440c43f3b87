"""The database under the ledger: engine, pragmas, transactions, migrations.

SQLite: WAL, synchronous=FULL, foreign keys, `BEGIN IMMEDIATE` for writers, a busy timeout. A file on a network file
system is refused, and every transaction checks that the file at the path is the one that is open. The SQL above is
portable; PostgreSQL by URL comes later. Every error of the driver that asks for a remedy of ours is translated here.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError

from storage.errors import LedgerCorrupt, LedgerMissing, LedgerOutdated, LedgerPlace, LedgerReplaced, LedgerUnavailable

BUSY_TIMEOUT_S: Final = 30.0
SQLITE_READONLY_DBMOVED: Final = 1032  # the file was renamed or removed while it was open
FILE_MODE: Final = 0o600
NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"9p", "afs", "afpfs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs"}
    | {"fuse.ceph", "fuse.davfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"}
)
"""File systems on which the locks and shared memory of SQLite's WAL do not hold between machines."""

SIDE_FILES: Final = ("", "-wal", "-shm", "-journal")
"""A SQLite ledger is these files together; whoever moves one moves all."""


class Database:
    """One engine of one process; threads may share it. Open it with `Database(path)`, create it with
    `create_database`."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path`.

        Raises:
            LedgerMissing, LedgerCorrupt, LedgerPlace.
        """
        self.path = path
        self._file: tuple[int, int] | None = None
        self._anchor: sqlite3.Connection | None = None
        refuse_network_file_system(path)
        self._engine = sa.create_engine(
            "sqlite+pysqlite://",
            hide_parameters=True,  # they name patients, and an error may be logged
            creator=self._connect,
            poolclass=sa.QueuePool,
            pool_size=8,
            max_overflow=56,
            pool_reset_on_return="rollback",
        )
        event.listen(self._engine, "begin", _begin)
        try:
            self._anchor = self._connect()  # held to the end: the number of an open file is never given to another
            with self.read() as sql:
                sql.execute(sa.text("SELECT count(*) FROM sqlite_master")).scalar()
        except sqlite3.DatabaseError as fault:
            self.close()
            raise self._translated(fault) from fault
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock from its first statement; rolled back by an exception."""
        with self._transaction("BEGIN IMMEDIATE") as sql:
            yield sql

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent look; writers go on beside it."""
        with self._transaction("BEGIN") as sql:
            yield sql

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect().execution_options(dicom_node_begin=begin) as sql, sql.begin():
                self._check_same_file(sql)
                yield sql
                self._check_same_file(sql)
        except DatabaseError as fault:
            raise self._translated(fault) from fault
        except sqlite3.DatabaseError as fault:
            raise self._translated(fault) from fault

    def _connect(self) -> sqlite3.Connection:
        before = _inode(self.path)
        if before is None:
            raise LedgerMissing(
                what="there is no ledger file",
                which=str(self.path),
                do="it is rebuilt from the spool at the next start",
            )
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        self._file = self._file or before
        if not before == _inode(self.path) == self._file:
            connection.close()
            raise self._replaced()
        return connection

    def _check_same_file(self, sql: sa.Connection) -> None:
        if _inode(self.path) != self._file:
            sql.invalidate()
            raise self._replaced()

    def _replaced(self) -> LedgerReplaced:
        return LedgerReplaced(
            what="the file at this path is not the ledger that is open",
            which=str(self.path),
            do="the role stops; start it again",
        )

    def _translated(self, fault: Exception) -> Exception:
        cause = fault.orig if isinstance(fault, DatabaseError) else fault
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            with suppress(OSError):
                self._report.touch(FILE_MODE)  # the next start looks at the whole file
            return LedgerCorrupt(
                what=f"SQLite says: {cause}",
                which=str(self.path),
                do="it is moved aside and rebuilt from the spool at the next start",
            )
        if code == sqlite3.SQLITE_CANTOPEN or getattr(cause, "sqlite_errorcode", 0) == SQLITE_READONLY_DBMOVED:
            return self._replaced()
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return LedgerUnavailable(
                what=f"SQLite says: {cause}", which=str(self.path), do="look at its disk; try again later"
            )
        return fault

    def schema_revision(self) -> str:
        """The migration that the file stands at; "" before the first."""
        with self.read() as sql:
            return MigrationContext.configure(sql).get_current_revision() or ""

    def require_schema(self) -> None:
        """Raise LedgerOutdated unless the file stands at this software's last migration."""
        have, want = self.schema_revision(), newest_revision()
        if have != want:
            raise LedgerOutdated(
                what=f"schema {have or 'none'}, this software needs {want}",
                which=str(self.path),
                do="run `dicom-node ledger migrate`",
            )

    def migrate(self) -> str:
        """Run the migrations that are missing (forward only); returns the revision it then stands at.

        Raises:
            LedgerOutdated: the file is newer than this software.
        """
        scripts = _scripts()
        have = self.schema_revision()
        if have and have not in {script.revision for script in scripts.walk_revisions()}:
            raise LedgerOutdated(
                what=f"schema {have} is newer than this software ({newest_revision()})",
                which=str(self.path),
                do="install the newer software",
            )
        with self.write() as sql:
            configuration = _alembic()
            configuration.attributes["connection"] = sql
            command.upgrade(configuration, "head")
        return self.schema_revision()

    def check(self) -> list[str]:
        """SQLite's own integrity and foreign key checks; what is wrong, [] for nothing. Reads the whole file."""
        with self.read() as sql:
            found = [str(row[0]) for row in sql.exec_driver_sql("PRAGMA integrity_check(20)") if row[0] != "ok"]
            found += [
                f"row {row[1]} of {row[0]} points at a missing row of {row[2]}"
                for row in sql.exec_driver_sql("PRAGMA foreign_key_check")
            ]
        return found

    def reported_corrupt(self) -> bool:
        """Whether a role found a broken page since the last sound look (opening alone reads few of them)."""
        return self._report.exists()

    def forget_report(self) -> None:
        """The file was looked at."""
        self._report.unlink(missing_ok=True)

    @property
    def _report(self) -> Path:
        return self.path.with_name(self.path.name + ".corrupt")

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None


def create_database(path: Path) -> Database:
    """Create the ledger file where there is none (mode 0600), bring its schema up to date, open it."""
    refuse_network_file_system(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))
    database = Database(path)
    try:
        database.migrate()
    except BaseException:
        database.close()
        raise
    return database


def copy_database(path: Path, target: Path) -> None:
    """A whole copy of a ledger, with what still stands in its write-ahead log (mode 0600; `target` must be new)."""
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))
    with closing(sqlite3.connect(path)) as ledger, closing(sqlite3.connect(target)) as copy:
        ledger.backup(copy)


def sqlite_path(url: str, state_folder: Path) -> Path:
    """Where the ledger lies: "" is `ledger.sqlite` in the state folder.

    Raises:
        LedgerPlace: a URL of another database.
    """
    if not url:
        return state_folder / "ledger.sqlite"
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise LedgerPlace(
            what="only SQLite files are served by this version",
            which=f"database.url = {parsed.render_as_string()!r}",
            do="leave it empty, or write sqlite:////folder/ledger.sqlite",
        )
    return Path(parsed.database)


def refuse_network_file_system(path: Path, mounts: str | None = None) -> None:
    """Raise LedgerPlace where SQLite's locks don't hold. `mounts`: text in the form of /proc/self/mounts."""
    kind = file_system_of(path, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise LedgerPlace(
            what=f"SQLite can't be kept on a network file system ({kind})",
            which=str(path),
            do="put paths.state on a local disk",
        )


def file_system_of(path: Path, mounts: str | None = None) -> str:
    """Kind of the file system that `path` lies (or would lie) on; "" where the system doesn't say."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
    real = os.path.realpath(path)
    longest, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
        inside = point == "/" or real == point or real.startswith(point + "/")
        if inside and len(point) >= longest:  # of two mounts at one point the later hides the earlier
            longest, kind = len(point), fields[2]
    return kind


def newest_revision() -> str:
    """The last migration of this software."""
    return _scripts().get_current_head() or ""


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _begin(sql: sa.Connection) -> None:
    sql.exec_driver_sql(sql.get_execution_options().get("dicom_node_begin", "BEGIN"))


def _alembic() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return configuration


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_alembic())
