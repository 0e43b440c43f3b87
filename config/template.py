"""The configuration that `dicom-node init` writes, and docs/settings.md; both printed from the settings themselves.

python -m config.template          the file of `init`
python -m config.template --docs   docs/settings.md
"""

import sys
import textwrap
from collections.abc import Iterator
from inspect import cleandoc

from config.environment import OTHER_VARIABLES, PREFIX
from config.keys import Key, Kind, as_toml, keys, repeated_sections, sections

LINE_CHARACTERS_MAX = 100

_HEAD = """
Settings of a DICOM node. Lines that begin with "# " explain. A line that begins with "#" and no blank is a setting
with its default: take the "#" away to change it. What is wrong, missing or unknown here is told all at once by
`dicom-node check`, and nothing starts before it is put right.

A variable of the environment goes before this file: {prefix}RECEIVE__PORT=11113.
"""


def render_template(timezone: str = "") -> str:
    """The commented configuration: every section and key with description and default, required ones to be filled in.

    Args:
        timezone: IANA name for site.timezone, the one setting that has no default; "" leaves it to be filled in.
    """
    lines = _comment(_HEAD.format(prefix=PREFIX))
    for section in sections():
        lines += ["", *_comment(_about(section))]
        repeated = section in repeated_sections()
        lines.append(f"#[[{section}]]" if repeated else f"[{section}]")
        for key in _keys_of(section):
            lines += _comment(_explained(key))
            if key.required and not repeated:
                value = timezone if key.path == "site.timezone" else ""
                lines.append(f"{key.name} = {as_toml(value)}")
            else:
                lines.append(f"#{key.name} = {as_toml(key.example if key.required else key.default)}")
    return "\n".join(lines) + "\n"


def render_page() -> str:
    """docs/settings.md: the same as tables."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield "Printed from the code (`python -m config.template --docs`); a test compares the two."
    yield ""
    yield "The file is TOML. `dicom-node init` writes one with every setting and its default, and `dicom-node check`"
    yield "tells all faults of it at once. Unknown keys are faults. Values keep their TOML type: `port = 104`, never"
    yield '`port = "104"`.'
    yield ""
    yield f"A variable `{PREFIX}SECTION__KEY` goes before the file:"
    yield ""
    yield "```"
    yield f"{PREFIX}RECEIVE__PORT=11113"
    yield f"{PREFIX}RECEIVE__CALLING_AE_TITLES=PACS,CT1          # a list: parted by commas, or JSON"
    yield f"{PREFIX}PACS__1__HOST=pacs.example.org               # an entry of [[pacs]], counted from 1"
    yield f'{PREFIX}PACS=\'[{{"name": "pacs-main", ...}}]\'          # all entries, as JSON'
    yield "```"
    yield ""
    others = ", ".join(f"`{name}`" for name in OTHER_VARIABLES)
    yield f"{others} are no settings."
    yield "Any other variable that begins with `DICOM_NODE` is a fault, so that a mistyped one is not silently without"
    yield "effect (but for those that Kubernetes makes of a service's name)."
    for section in sections():
        yield ""
        yield f"## {'[[' + section + ']]' if section in repeated_sections() else '[' + section + ']'}"
        yield _about(section)
        yield ""
        yield "| key | holds | default | meaning |"
        yield "| --- | --- | --- | --- |"
        for key in _keys_of(section):
            yield f"| `{key.name}` | {_holds(key)} | {_default(key)} | {key.description.replace('|', chr(92) + '|')} |"


def _about(section: str) -> str:
    return cleandoc(sections()[section].__doc__ or "")


def _keys_of(section: str) -> list[Key]:
    return [key for key in keys().values() if key.section == section]


def _explained(key: Key) -> str:
    required = " Required." if key.required else ""
    choices = f" One of {', '.join(map(as_toml, key.choices))}." if key.choices and key.kind is Kind.TEXT else ""
    some = f" Any of {', '.join(map(as_toml, key.choices))}." if key.choices and key.kind is Kind.TEXTS else ""
    return key.description + required + choices + some


def _holds(key: Key) -> str:
    if key.choices:
        words = ", ".join(f"`{choice}`" for choice in key.choices)
        return f"{'some of' if key.kind is Kind.TEXTS else 'one of'} {words}"
    kind = key.kind.removeprefix("a ")
    return f"{kind}, {key.unit}" if key.unit else kind


def _default(key: Key) -> str:
    return f"required, as in `{as_toml(key.example)}`" if key.required else f"`{as_toml(key.default)}`"


def _comment(text: str) -> list[str]:
    return [
        line
        for paragraph in text.strip().split("\n\n")
        for line in textwrap.wrap(
            paragraph, LINE_CHARACTERS_MAX, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
        )
    ]


if __name__ == "__main__":
    sys.stdout.write(render_page() if sys.argv[1:] == ["--docs"] else render_template())
