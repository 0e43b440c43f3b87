"""How an offline process talks with the command that started it: a job in, JSON lines out.

The job is one JSON line on standard input. Out come {"event": "progress", "text"}, and at the end {"event": "done", ...} or
{"event": "error", "exit", "text"}; `exit` is the exit code that interfaces promise for it.
"""

import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from config.errors import ConfigurationError, NodeError
from inference.errors import InSample, LearnMissing, ModelRefused, NoSuchData
from inference.training.plan import Progress

LEARN: Final = ("sklearn", "matplotlib", "shap")
FAILED, USAGE, REFUSED, INTERRUPTED = 1, 2, 3, 130
EXIT: Final[Mapping[type[NodeError], int]] = {
    ConfigurationError: USAGE,
    NoSuchData: USAGE,
    LearnMissing: USAGE,
    InSample: REFUSED,
    ModelRefused: REFUSED,
}


def need_learn() -> None:
    """Before hours of work: are the libraries there that its end needs?

    Raises:
        LearnMissing: names those that are not.
    """
    missing = [name for name in LEARN if importlib.util.find_spec(name) is None]
    if missing:
        raise LearnMissing(
            f"not installed: {', '.join(missing)}",
            "the extra learn",
            "pip install 'dicom-node[learn]', or make env-dev",
        )


def say(**fields: Any) -> None:
    """A JSON line for the command."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def serve(work: Callable[[Mapping[str, Any], Progress], Mapping[str, Any]]) -> int:
    """Do the job of the first line; every way it can end is a line and an exit code."""
    code = FAILED
    try:
        job = json.loads(sys.stdin.readline())
        need_learn()
        say(event="done", **work(job, lambda text: say(event="progress", text=text)))
        return 0
    except NodeError as fault:
        code = next((number for kind, number in EXIT.items() if isinstance(fault, kind)), FAILED)
        say(event="error", exit=code, text=str(fault))
    except KeyboardInterrupt:
        code = INTERRUPTED
        say(event="error", exit=code, text="interrupted; the same command goes on where it stopped")
    except Exception as fault:  # noqa: BLE001 - whatever it was, the command says it and ends
        traceback.print_exc()
        say(event="error", exit=code, text=f"{type(fault).__name__}: {fault}"[:1000])
    return code
