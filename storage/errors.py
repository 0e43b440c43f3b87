"""What can go wrong with what is kept. One leaf per remedy.

NodeError
└── StorageError
    ├── SpoolFull        no room left: C-STORE is answered A700H, the sender tries again
    ├── NameTaken        another file has the name; nothing is ever overwritten
    ├── JournalFailed    a line could not be made durable: what it stands for must not be done
    └── LedgerError
        ├── IllegalMove      the state has no such move: a mistake of the caller, or a person asked for the impossible
        ├── Stale            it changed since it was looked at: look again
        ├── LeaseLost        another has it now: stop, keep nothing but Readings
        ├── Superseded       a newer result replaced this delivery: it is never sent again
        ├── IdentityNeeded   `release` must say which patient it is
        ├── NotFound         no such study, delivery or key
        ├── LedgerMissing    no ledger file: rebuild it from the spool
        ├── LedgerCorrupt    SQLite can't read it: rebuild it from the spool
        ├── LedgerReplaced   the open file is not the one at its path: stop the role, start it again
        ├── LedgerOutdated   its schema is not this software's: `dicom-node ledger migrate`
        ├── LedgerUnavailable  busy for too long, or the disk failed it: nothing was written, try again later
        └── LedgerPlace      a network file system, or a database that is not served: choose another place
"""

from config.errors import NodeError


class StorageError(NodeError):
    """Something about the spool, the journal or the ledger."""


class SpoolFull(StorageError):
    """Less than `disk.free_mib_min` is free, or more than `disk.used_max` used; A700H, and the sender tries again."""


class NameTaken(StorageError):
    """Another file has the name in the spool; nothing is ever overwritten."""


class JournalFailed(StorageError):
    """A line of the journal could not be made durable: what it stands for must not be done."""


class LedgerError(StorageError):
    """Something about the ledger."""


class IllegalMove(LedgerError):
    """The state has no such move (see `storage/states.py`)."""


class Stale(LedgerError):
    """It changed since it was looked at; look again and decide again."""


class LeaseLost(LedgerError):
    """The lease is past or void: stop, write nothing, send nothing."""


class Superseded(LedgerError):
    """A newer result replaced this delivery; it is never sent again (exit 3)."""


class IdentityNeeded(LedgerError):
    """Whose study it is must be said: `release --identity KEY` (exit 3)."""


class NotFound(LedgerError):
    """The ledger knows no such study, delivery or identity."""


class LedgerMissing(LedgerError):
    """There is no ledger file; it is rebuilt from the spool."""


class LedgerCorrupt(LedgerError):
    """The file is no readable ledger; it is moved aside and rebuilt from the spool."""


class LedgerReplaced(LedgerError):
    """The file at the ledger's path is not the one that is open: this role stops, and starts again on the new one."""


class LedgerOutdated(LedgerError):
    """Its schema is older or newer than this software: `dicom-node ledger migrate`."""


class LedgerUnavailable(LedgerError):
    """The database could not do it now (locked for too long, disk full or failing): nothing was written, try again."""


class LedgerPlace(LedgerError):
    """The ledger can't be kept there: a network file system, or a database that this version doesn't speak."""
