"""The root of every error of ours, and what a configuration can do wrong.

    NodeError                 what happened, to which key or UID, what to do
    └── ConfigurationError    nothing starts; all faults in one report

The other packages hang their own trees under NodeError: inference/errors.py, hl7/errors.py, storage/errors.py and
dicom_node/errors.py.
"""


class NodeError(Exception):
    """What happened, to which key or UID, and what to do about it.

    The three stay in `args`, so the error survives a process boundary.
    """

    def __init__(self, what: str, which: str = "", do: str = "") -> None:
        super().__init__(what, which, do)
        self.what = what
        self.which = which
        self.do = do

    def __str__(self) -> str:
        parts = [f"{self.which}: {self.what}" if self.which else self.what]
        if self.do:
            parts.append(self.do)
        return "; ".join(parts)


class ConfigurationError(NodeError):
    """A setting is missing, unknown or wrong; nothing starts until it is put right."""
