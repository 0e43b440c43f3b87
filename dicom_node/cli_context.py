"""What commands share: settings, an open node, one study from what a person typed, who they are."""

import getpass
import json
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from config.settings import Settings
from dicom_node.errors import Precondition, UsageFault
from dicom_node.node import Node, open_node
from dicom_node.places import state_folder
from storage.errors import IllegalMove, NotFound
from storage.rows import StudyRow


def settings_here() -> Settings:
    """The settings of this command line. Raises ConfigurationError."""
    obj: Any = click.get_current_context().find_root().obj
    settings: Settings = obj.settings
    return settings


@contextmanager
def node_here(who: str) -> Iterator[Node]:
    """The node of this command line, closed afterwards.

    What the ledger does not know is the person's mistake (UsageFault, exit 2), what its state forbids a refusal (Precondition, exit 3).
    """
    os.umask(0o077)
    refuse_another_user(state_folder(settings_here()))
    node = open_node(settings_here(), who)
    try:
        yield node
    except NotFound as fault:
        raise UsageFault(fault.what, fault.which, fault.do) from fault
    except IllegalMove as fault:
        raise Precondition(fault.what, fault.which, fault.do) from fault
    finally:
        node.close()


def refuse_another_user(folder: Path) -> None:
    """What root wrote into it, the node's own user could not read any more. Raises Precondition."""
    if not folder.exists() or folder.stat().st_uid == os.geteuid():
        return
    try:
        owner = pwd.getpwuid(folder.stat().st_uid).pw_name
    except KeyError:
        owner = str(folder.stat().st_uid)
    raise Precondition("the state folder belongs to another user", str(folder), f"run it as {owner}: `sudo -u {owner} dicom-node ...`")


def study_of(node: Node, text: str) -> StudyRow:
    """The one study that `text` names: the ledger's number, a Study UID or an accession number.

    Raises UsageFault: none, or more than one (the candidates are listed).
    """
    found = node.ledger.resolve(text)
    if not found:
        raise UsageFault(
            "no study of this number, Study UID or accession number", text, "`dicom-node status` lists the latest"
        )
    if len(found) > 1:
        listed = ", ".join(f"{s.number} ({s.study_uid})" for s in found)
        raise UsageFault(f"{len(found)} studies: {listed}", text, "name one by its number or UID")
    return found[0]


def person() -> str:
    """Who types: the login name, the one behind sudo where there is one."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def print_json(value: object) -> None:
    """JSON for scripts."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


by_option = click.option(
    "--by", default=person, show_default="your login name", help="Who asks; kept in the ledger and the journal."
)


def _some_words(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("say why in a few words")
    return value


why_option = click.option("--why", required=True, callback=_some_words, help="Why; kept in the ledger and the journal.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON for scripts.")
