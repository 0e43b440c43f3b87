"""What can go wrong with what is kept. One leaf per remedy.

    NodeError
    └── StorageError
        ├── SpoolFull        no room left: C-STORE is answered A700H, the sender tries again
        ├── NameTaken        another file has the name; nothing is ever overwritten
        └── JournalFailed    a line could not be made durable: what it stands for must not be done
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
