"""Commands about what leaves the node: deliveries, and the peers that take or send."""

import click

from dicom_node.cli_context import by_option, json_option, node_here, print_json, settings_here, why_option
from dicom_node.errors import Precondition, UsageFault
from dicom_node.node import Node
from dicom_node.peers import reach
from dicom_node.places import open_spool, utc_now
from storage.states import DeliveryState


@click.group()
def deliveries() -> None:
    """What goes to PACS and EHR: list, send dead ones again, pause and resume a destination."""


def _known(node: Node, name: str | None) -> str | None:
    names = [*(p.name for p in node.settings.pacs), *(e.name for e in node.settings.ehr)]
    if name is not None and name not in names:
        raise UsageFault("no such destination", name, f"configured are: {', '.join(names) or 'none'}")
    return name


@deliveries.command("list")
@click.option("--to", "destination", help="Only those for this destination.")
@click.option("--state", type=click.Choice([str(state) for state in DeliveryState]), help="Only those in this state.")
@json_option
def list_deliveries(destination: str | None, state: str | None, as_json: bool) -> int:
    """List deliveries, oldest first. Exit 1 when any listed one is dead."""
    with node_here("cli") as node:
        rows = node.ledger.deliveries(destination=_known(node, destination), states=[state] if state else None)
        if as_json:
            print_json(
                [
                    {
                        "number": r.number,
                        "study": r.study_number,
                        "revision": r.revision,
                        "destination": r.destination,
                        "kind": r.kind,
                        "state": str(r.state),
                        "attempts": r.attempts,
                        "withdrawal": r.withdrawal,
                        "next_at": r.next_at.isoformat(),
                        "last_error": r.last_error,
                    }
                    for r in rows
                ]
            )
        else:
            for r in rows:
                error = f"  {r.last_error}" if r.last_error else ""
                click.echo(
                    f"{r.number:6} study {r.study_number:<6} {'withdrawal' if r.withdrawal else f'revision {r.revision}':12} {r.destination:20} "
                    f"{r.kind:6} {r.state:10} attempts {r.attempts}{error}"
                )
            if not rows:
                click.echo("no such deliveries" if destination or state else "no deliveries yet")
            for d in node.ledger.destinations():
                if d.paused_by or d.breaker_until:
                    click.echo(
                        f"{d.name}: {f'paused by {d.paused_by}: {d.paused_why}' if d.paused_by else f'not reached, next try {d.breaker_until}'}"
                    )
        return 1 if any(r.state == "dead" for r in rows) else 0


@deliveries.command()
@click.argument("number", type=int, required=False)
@click.option("--to", "destination", help="All dead ones for this destination.")
@by_option
@why_option
def replay(number: int | None, destination: str | None, by: str, why: str) -> int:
    """Send dead deliveries again: one by its NUMBER, or all of a destination with --to. Superseded ones are refused (exit 3)."""
    if (number is None) == (destination is None):
        raise UsageFault(
            "name either a delivery or a destination",
            "deliveries replay",
            "`deliveries replay 12` or `deliveries replay --to pacs-main`",
        )
    with node_here("cli") as node:
        count = node.ledger.replay(by=by, why=why, now=utc_now(), number=number, destination=_known(node, destination))
        if number is not None and not count:
            raise Precondition("it is not dead", f"delivery {number}", "`dicom-node deliveries list` shows its state")
        click.echo(f"{count} deliver{'y' if count == 1 else 'ies'} pending again")
    return 0


@deliveries.command()
@click.option("--to", "destination", required=True, help="Destination.")
@by_option
@why_option
def pause(destination: str, by: str, why: str) -> int:
    """Start no more deliveries to a destination; what is on the wire finishes."""
    with node_here("cli") as node:
        _known(node, destination)
        node.ledger.pause(destination, by=by, why=why, now=utc_now())
    click.echo(f"{destination} is paused; `dicom-node deliveries resume --to {destination}` goes on")
    return 0


@deliveries.command()
@click.option("--to", "destination", required=True, help="Destination.")
@by_option
@why_option
def resume(destination: str, by: str, why: str) -> int:
    """Start deliveries to a destination again, and try it at once."""
    with node_here("cli") as node:
        _known(node, destination)
        node.ledger.resume(destination, by=by, why=why, now=utc_now())
    click.echo(f"{destination} goes on")
    return 0


@click.group()
def peers() -> None:
    """The systems around this node."""


@peers.command()
@click.option("--to", "destination", help="Only this destination.")
@json_option
def echo(destination: str | None, as_json: bool) -> int:
    """C-ECHO to every PACS, a TCP connection to every EHR. Exit 4 when one is not reached."""
    answers = [(name, answer) for name, answer in reach(settings_here()) if destination in (None, name)]
    if destination and not answers:
        raise UsageFault("no such destination", destination, "see [[pacs]] and [[ehr]] of the configuration")
    if as_json:
        print_json([{"destination": name, "reached": not answer, "why": answer} for name, answer in answers])
    else:
        for name, answer in answers:
            click.echo(f"{name}: {answer or 'reached'}")
    return 4 if any(answer for _, answer in answers) else 0


@peers.command()
@json_option
def refused(as_json: bool) -> int:
    """Callers that were rejected: AE title, address, how often, why. To let one in, add it to receive.calling_ae_titles."""
    rows = list(open_spool(settings_here()).refusals)
    if as_json:
        print_json([{**vars(row), "last_at": row.last_at.isoformat()} for row in rows])
    else:
        for row in rows:
            click.echo(
                f"{row.last_at:%Y-%m-%d %H:%M:%S} {row.calling_ae:16} called {row.called_ae:16} from {row.address:15} {row.count:5} times: {row.why}"
            )
        if not rows:
            click.echo("no caller was rejected")
    return 0
