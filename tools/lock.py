"""Write requirements.lock and requirements-dev.lock from what is installed here.

Each holds the exact versions of what the project asks for and what that pulls in, without torch and what torch alone pulls:
`make env` installs torch first, from whatever index the environment names.
Run by `make lock` after the dependencies of pyproject.toml changed and `make env-dev` was run.
"""

import importlib.metadata as metadata
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def closure(wanted: list[str]) -> dict[str, str]:
    """Name and version of all that the requirements pull in here, torch and its own left out."""
    found: dict[str, str] = {}
    todo = [(Requirement(text), set(Requirement(text).extras)) for text in wanted]
    while todo:
        requirement, extras = todo.pop()
        name = canonicalize_name(requirement.name)
        if name == "torch" or name in found:
            continue
        distribution = metadata.distribution(name)
        found[name] = distribution.version
        for text in distribution.requires or []:
            child = Requirement(text)
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                todo.append((child, set(child.extras)))
    return found


def main() -> None:
    """Write both files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime = closure(project["dependencies"])
    extras = project["optional-dependencies"]
    dev = closure([*extras["dev"], *extras["learn"]])
    head = "# Made by `make lock`; torch is not here, see the Makefile.\n"
    (ROOT / "requirements.lock").write_text(head + "".join(f"{n}=={v}\n" for n, v in sorted(runtime.items())))
    (ROOT / "requirements-dev.lock").write_text(
        head + "-r requirements.lock\n" + "".join(f"{n}=={v}\n" for n, v in sorted(dev.items()) if n not in runtime)
    )


if __name__ == "__main__":
    main()
