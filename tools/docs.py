"""Print what the docs take from code: `python -m tools.docs` writes, `--check` compares (part of `make check`)."""

import argparse
import sys
from pathlib import Path

from config.template import render_page
from storage.states import DELIVERY_MOVES, STUDY_MOVES, diagram

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- states: printed by `python -m storage.states` -->\n", "<!-- /states -->"


def architecture(text: str) -> str:
    """The page with both diagrams as the tables are now."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    study, delivery = (f"```mermaid\n{diagram(moves)}\n```\n" for moves in (STUDY_MOVES, DELIVERY_MOVES))  # type: ignore[type-var]
    return f"{before}{BEGIN}A study:\n\n{study}\nA delivery:\n\n{delivery}{END}{after}"


def main() -> int:
    """Exit 1 when --check finds a page that is not as the code says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    page = ROOT / "docs" / "architecture.md"
    wanted = {page: architecture(page.read_text(encoding="utf-8")), ROOT / "docs" / "settings.md": render_page()}
    stale = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is not as the code says: run `make docs`", file=sys.stderr)
        else:
            path.write_text(wanted[path], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
