"""What can go wrong between the rooms.

    NodeError (config.errors)
    └── ServiceError
        ├── ChildDied          a decoder, reader or header child ended by itself or was killed
        ├── UnreadableHeader   a file that names no instance, or that kills its reader: quarantined
        ├── ReaderFailed       a reading could not be made; counted, tried again
        ├── NoReader           nothing can be read here: a model was refused, or the device is lost; no study's fault, claims stop
        ├── TurnedAway         the pixels show that a series is not to be read; `outcome` and `code` say how it ends
        ├── LostLease          the study is no longer ours; whatever was made stays for the next
        ├── UsageFault         a command that cannot be carried out as said (exit 2)
        ├── Precondition       a command that is refused (exit 3)
        ├── PortUnavailable    an address that we must listen on can't be had (exit 4)
        ├── NotReached         a destination could not be connected to or associated with (counts against its breaker)
        ├── Refused            a destination answered, and said no (counts against the delivery)
        └── NoAnswer           sent, and silence: the peer may have it
"""

from config.errors import NodeError


class ServiceError(NodeError):
    """Root of the errors of `dicom_node`."""


class ChildDied(ServiceError):
    """A child process ended before it answered; says which and by what signal."""


class UnreadableHeader(ServiceError):
    """A file that names no instance, or that ended its reader each time; goes to `unfiled/`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.args = (code, text)
        self.code = code
        self.text = text


class ReaderFailed(ServiceError):
    """A reading could not be made: the child died, was silent, too slow or too large. The attempt counts."""


class NoReader(ServiceError):
    """No series can be read here as things stand: the reader refuses its models, does not start, or its device computes no
    more. No study's fault: none loses an attempt, and no more are claimed until a reader starts. `code` is the reason for
    machines."""

    def __init__(self, what: str, which: str = "", do: str = "", code: str = "no_reader") -> None:
        super().__init__(what, which, do)
        self.args = (what, which, do, code)
        self.code = code


class TurnedAway(ServiceError):
    """The pixels show that this series is not to be read. `outcome` is passed_over, declined or failed."""

    def __init__(self, outcome: str, code: str, text: str) -> None:
        super().__init__(text)
        self.args = (outcome, code, text)
        self.outcome = outcome
        self.code = code
        self.text = text


class LostLease(ServiceError):
    """Another holds the study now, or it changed; nothing of this job may be committed."""


class UsageFault(ServiceError):
    """The command line names something that is not there or is ambiguous; exit 2."""


class Precondition(ServiceError):
    """What was asked is refused as things stand; exit 3."""


class PortUnavailable(ServiceError):
    """An address that we must listen on can't be had; exit 4."""


class NotReached(ServiceError):
    """Connecting or associating failed; nothing went out."""


class Refused(ServiceError):
    """The destination answered with a failure."""


class NoAnswer(ServiceError):
    """Sent, and no answer came in time: the destination may have it."""
