"""A report as one HTML file: pictures inside it, no script, nothing fetched from elsewhere."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

from inference.findings import RESEARCH

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; margin: 0.6rem 0 1.2rem; }
th, td { border-bottom: 1px solid #ccc; padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; }
figcaption { font-size: 13px; max-width: 33rem; }
.gallery figure { width: 150px; }
.gallery img { width: 150px; height: 150px; }
.gallery figcaption { font-size: 12px; overflow-wrap: anywhere; }
.stamp { color: #b00000; font-weight: bold; border: 2px solid #b00000; padding: 0.5rem; }
"""


def shown(value: Any, interval: Sequence[float] | None = None) -> str:
    """A figure for people: three digits and its interval; a dash for None."""
    if value is None:
        return "-"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return f"{text} [{interval[0]:.3f}-{interval[1]:.3f}]" if interval else text


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; numbers to the right."""
    lines = ["<tr>" + "".join(f"<th>{escape(word)}</th>" for word in head) + "</tr>"]
    for row in rows:
        cells = (
            f"<td{' class=number' if isinstance(cell, int | float) else ''}>{escape(shown(cell))}</td>" for cell in row
        )
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def heading(text: str, level: int = 2) -> str:
    """A heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; `kind` is a class of the style."""
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def figure(png: bytes, caption: str) -> str:
    """A picture with a line under it."""
    source = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def gallery(pictures: Iterable[tuple[bytes, str]], none: str = "None.") -> str:
    """Small pictures in rows, or the words that there is none."""
    figures = [figure(png, caption) for png, caption in pictures]
    return f"<div class=gallery>{''.join(figures)}</div>" if figures else paragraph(none)


def page(title: str, stamp: str, parts: Iterable[str]) -> str:
    """The whole file. `stamp`: what must not be overlooked ("" = nothing)."""
    body = [heading(title, 1), paragraph(RESEARCH), *([paragraph(stamp, "stamp")] if stamp else []), *parts]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )
