"""What can go wrong with messages and their delivery.

    NodeError
    └── Hl7Error
        ├── CannotRender         no message was made; sending again changes nothing, something must be put right
        │   ├── NoPatientId      PID-3 would be empty
        │   ├── NotInCharset     the destination's character set cannot carry the patient or the order
        │   ├── FieldTooLong     an identifier is longer than its field; identifiers are never cut
        │   └── NotOneMessage    what was rendered is no ORU^R01 (a fault of ours)
        ├── FrameError           bytes that are no MLLP frame, or a message that cannot be framed
        ├── NotReached           nothing went out: counts against the destination, never against the delivery
        └── NoAnswer             the message may have arrived, no answer of ours came: counts against the delivery
"""

from config.errors import NodeError


class Hl7Error(NodeError):
    """The root of this package's errors."""


class CannotRender(Hl7Error):
    """No message could be made; another attempt with the same input ends the same way."""


class NoPatientId(CannotRender):
    """A result without a patient ID can be filed under nobody."""


class NotInCharset(CannotRender):
    """A name or number that MSH-18 of this destination cannot carry; with other letters it would name someone else."""


class FieldTooLong(CannotRender):
    """An identifier is longer than its field; cut, it would name something else."""


class NotOneMessage(CannotRender):
    """The rendered text does not parse as one ORU^R01."""


class FrameError(Hl7Error):
    """Bytes that exceed the bound of a frame, or a message that holds the framing bytes itself."""


class NotReached(Hl7Error):
    """No connection: no byte of the message went out."""


class NoAnswer(Hl7Error):
    """Connected, and no answer to this message by the deadline: it may have arrived."""
