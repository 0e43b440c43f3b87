"""Commands about the ledger itself."""

import click

from dicom_node.cli_context import json_option, node_here, print_json, settings_here
from dicom_node.places import open_spool, state_folder, utc_now
from storage.database import copy_database, create_database, sqlite_path


@click.group()
def ledger() -> None:
    """The ledger: migrate it, verify it, rebuild it from the spool."""


@ledger.command()
def migrate() -> int:
    """Bring the ledger's schema to this software's version. Stop the roles first; a copy of the file is kept beside it."""
    settings = settings_here()
    path = sqlite_path(settings.database.url, state_folder(settings))
    if path.exists():
        kept = path.with_name(f"{path.name}.before-{utc_now():%Y%m%dT%H%M%S%f}")
        copy_database(path, kept)
        click.echo(f"copy kept: {kept}")
    database = create_database(path)
    click.echo(f"schema {database.schema_revision()}")
    database.close()
    return 0


@ledger.command()
@json_option
def verify(as_json: bool) -> int:
    """Check the ledger's integrity, and that every file it names is in the spool with its digest. Exit 1 when not."""
    from storage.verify import verify_spool

    with node_here("cli") as node:
        faults = [*node.database.check(), *verify_spool(node.spool, node.ledger)]
    if as_json:
        print_json({"faults": faults})
    else:
        for fault in faults:
            click.echo(fault)
        click.echo(
            "ledger and spool agree"
            if not faults
            else f"{len(faults)} faults; `dicom-node ledger rebuild` makes the ledger again from the spool"
        )
    return 1 if faults else 0


@ledger.command()
@click.option("--yes", is_flag=True, help="Do it without asking.")
def rebuild(yes: bool) -> int:
    """Make the ledger again from the spool alone (studies, manifests, journal). The old file is moved aside.

    Stop every role but the receiver first. What was sent is not sent again; unfinished work goes on.
    """
    from dicom_node.rebuilding import rebuild_ledger

    if not yes:
        click.confirm("Move the ledger aside and rebuild it from the spool?", abort=True)
    settings = settings_here()
    summary = rebuild_ledger(settings, open_spool(settings), utc_now())
    click.echo(str(summary))
    return 0
