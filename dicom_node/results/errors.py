"""What can go wrong while a result is written.

ResultError             no object was written
├── SourceUnusable      a source file is missing or lacks what every result needs
├── SourcesDisagree     the sources and the reading don't fit each other
└── NotWritten          the disk refused the file
"""

from config.errors import NodeError


class ResultError(NodeError):
    """No object was written."""


class SourceUnusable(ResultError):
    """A source file is missing, or lacks what every result needs of it; read the study again from its files."""


class SourcesDisagree(ResultError):
    """The sources and the reading don't fit each other (other size, other study, mask outside the volume)."""


class NotWritten(ResultError):
    """The disk refused the file; nothing was left behind."""
