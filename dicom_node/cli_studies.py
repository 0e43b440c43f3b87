"""Commands about studies: what became of them, and what people decide."""

import json
import secrets
from datetime import datetime

import click

from dicom_node.choosing import chosen_of
from dicom_node.cli_context import by_option, json_option, node_here, print_json, study_of, why_option
from dicom_node.errors import Precondition
from dicom_node.filing import WITHDRAW
from dicom_node.node import Node
from dicom_node.places import software_version, state_folder, utc_now
from dicom_node.publishing import inputs_digest
from dicom_node.reading import weights_of
from dicom_node.standing import standing_still
from dicom_node.story import story_json, story_text
from storage.rows import StudyRow, StudyView
from storage.states import DeliveryState, Outcome, StudyState

BAD = (StudyState.UNDELIVERED,)


@click.command()
@click.option(
    "--why", "study", metavar="STUDY", help="Tell the story of one study: number, Study UID or accession number."
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Studies listed.")
@json_option
def status(study: str | None, limit: int, as_json: bool) -> int:
    """What the node does: the latest studies, or with --why the whole story of one.

    Exit 1 when something listed is held, failed or undelivered, or a worker can read nothing (a model refused, a GPU lost).
    """
    with node_here("cli") as node:
        return _one(node, study, as_json) if study else _all(node, limit, as_json)


def _one(node: Node, text: str, as_json: bool) -> int:
    row = study_of(node, text)
    view, events = node.ledger.view(row.number), node.ledger.events(row.number)
    if as_json:
        print_json(story_json(node.spool, view, events))
    else:
        click.echo(story_text(node.spool, view, events))
    return 1 if view.holds or row.state in BAD or any(s.outcome is Outcome.FAILED for s in view.series) else 0


def _all(node: Node, limit: int, as_json: bool) -> int:
    now = utc_now()
    counts, holds, rows = node.ledger.counts(now), node.ledger.holds(), node.ledger.studies(limit)
    disk, waiting = node.spool.disk_state(), len(node.spool.arrivals())
    standing = standing_still(state_folder(node.settings))
    if as_json:
        print_json(
            {
                "studies": {str(state): n for state, n in counts.studies.items()},
                "deliveries": {str(state): n for state, n in counts.deliveries.items()},
                "held": counts.held,
                "failed_series": counts.failed_series,
                "incoming": waiting,
                "standing": [
                    {"worker": s.worker, "since": s.since.isoformat(), "code": s.code, "why": s.why} for s in standing
                ],
                "free_mib": disk.free_mib,
                "used_share": disk.used_share,
                "latest": [
                    {
                        "number": s.number,
                        "study_instance_uid": s.study_uid,
                        "state": str(s.state),
                        "revision": s.revision,
                        "outcome": s.outcome,
                        "held": list(holds.get(s.number, ())),
                        "last_at": s.last_at.isoformat(),
                    }
                    for s in rows
                ],
            }
        )
    else:
        click.echo(
            "studies     " + (", ".join(f"{n} {state}" for state, n in counts.studies.items() if n) or "none yet")
        )
        click.echo(
            "deliveries  " + (", ".join(f"{n} {state}" for state, n in counts.deliveries.items() if n) or "none yet")
        )
        click.echo(f"held {counts.held}, failed series {counts.failed_series}, waiting in incoming {waiting}")
        click.echo(f"disk        {disk.free_mib} MiB free, {disk.used_share:.0%} used")
        for one in standing:
            click.echo(f"NOTHING IS READ since {one.since:%Y-%m-%d %H:%M:%S} by {one.worker}: {one.why}")
        if not node.settings.delivery.enabled:
            click.echo("shadow mode: results are kept here, nothing leaves (delivery.enabled)")
        for s in rows:
            held = f"  HELD: {', '.join(holds[s.number])}" if s.number in holds else ""
            click.echo(
                f"{s.number:6}  {s.last_at:%Y-%m-%d %H:%M:%S}  {s.state:11} revision {s.revision}  {s.outcome}{held}"
            )
        if rows:
            click.echo("`dicom-node status --why NUMBER` tells the story of one")
    dead = counts.deliveries.get(DeliveryState.DEAD)
    return 1 if counts.held or counts.failed_series or dead or standing else 0


@click.command()
@click.argument("study")
@by_option
@why_option
def requeue(study: str, by: str, why: str) -> int:
    """Choose and read STUDY again, with the settings and models now active.

    Where nothing could come out differently and nothing had failed, it says so and does nothing. Failed series start from attempt 0; the age
    rule and the limits on revisions do not apply. Exit 3: its images are no longer here.
    """
    with node_here("cli") as node:
        row = study_of(node, study)
        view = node.ledger.view(row.number)
        images = [i for s in view.series if s.kind == "image" for i in s.instances]
        if not images:
            raise Precondition(
                "it has no images that could be read: none came, or all were withdrawn",
                f"study {row.number}",
                f"see `dicom-node status --why {row.number}`",
            )
        if any(i.gone for i in images):
            raise Precondition(
                "its images are no longer in the spool (retention.images_h)",
                f"study {row.number}",
                "send the study again from the PACS",
            )
        if _would_be_equal(node, view):
            click.echo(
                f"study {row.number}: the same images, settings and models; the result would be the same, and nothing had failed"
            )
            return 0
        node.ledger.requeue(row.number, by=by, why=why, now=utc_now())
        held = f"; it is held, so first `dicom-node release {row.number}`" if view.holds else ""
        click.echo(f"study {row.number} is chosen from and read again{held}")
    return 0


def _would_be_equal(node: Node, view: StudyView) -> bool:
    current = view.current
    if current is None or any(s.outcome is Outcome.FAILED for s in view.series) or view.holds:
        return False
    if any(
        d.state in (DeliveryState.DEAD, DeliveryState.CANCELLED) for d in view.deliveries if d.result_key == current.key
    ):
        return False
    chosen = chosen_of(view, node.settings, judge_age=False)
    now_active = inputs_digest(chosen.digest, weights_of(node.settings), node.settings, software_version())
    return bool(json.loads(current.payload).get("inputs_digest") == now_active)


@click.command()
@click.argument("study")
@by_option
@why_option
def hold(study: str, by: str, why: str) -> int:
    """Let no result of STUDY leave until it is released. Images are still taken; what is on the wire finishes."""
    with node_here("cli") as node:
        row = study_of(node, study)
        node.ledger.hold(row.number, "person", why, by=by, now=utc_now())
        click.echo(f"study {row.number} is held")
    return 0


@click.command()
@click.argument("study")
@click.option(
    "--identity",
    help="After a doubt about whose study it is: the key of the right patient (p1, p2, ... of `status --why`).",
)
@by_option
@why_option
def release(study: str, identity: str | None, by: str, why: str) -> int:
    """Clear the holds of STUDY; the waiting change goes on past the limits on revisions.

    After a doubt about identity, --identity must say which patient it is (exit 3 without). What was sent under another is withdrawn.
    """
    with node_here("cli") as node:
        row = study_of(node, study)
        node.ledger.release(row.number, by=by, why=why, now=utc_now(), identity=identity)
        click.echo(f"study {row.number} is released")
    return 0


@click.command()
@click.argument("study")
@by_option
@why_option
def withdraw(study: str, by: str, why: str) -> int:
    """Take back all that came of STUDY: its images take no part in reading any more, and what was sent is withdrawn.

    Puts a rejection note into the node's own incoming folder; the indexer does the rest. If images of it come again, the study is held.
    """
    with node_here("cli") as node:
        row = study_of(node, study)
        _write_note(node, row, by, why, utc_now())
        click.echo(
            f"study {row.number}: the rejection note is filed; `dicom-node status --why {row.number}` follows it"
        )
    return 0


def _write_note(node: Node, row: StudyRow, by: str, why: str, now: datetime) -> None:
    from dicom_node.results.context import ResultContext
    from dicom_node.results.note import Rejection, write_note

    view = node.ledger.view(row.number, headers=False)
    folder = node.spool.study_folder(row.study_uid)
    images = [i for s in view.series if s.kind == "image" for i in s.instances]
    files = [folder / i.file for i in images if not i.gone and (folder / i.file).is_file()]
    gone = [i.sop_uid for i in images if i.gone]
    if not files and not gone:
        raise Precondition(
            "it has no images that could be withdrawn", f"study {row.number}", "see `dicom-node status --why`"
        )
    token = secrets.token_hex(8)
    path = node.spool.unfiled / f"{WITHDRAW}{token}.note"
    try:
        if files:
            write_note(files, Rejection.QUALITY, ResultContext(key=token, content_at=now, device=node.device()), path)
        node.journal.append("withdraw asked", at=now, study=row.study_uid, by=by, why=why)
        node.ledger.note_event("withdraw asked", why, now, who=by, study_number=row.number)
        if gone:  # no file is left that a note could be made from: the ledger is told at once
            node.ledger.reject(row.study_uid, gone, code="withdraw", note=f"{WITHDRAW}{token}", by=by, why=why, now=now)
        if files:
            node.spool.receive(f"{WITHDRAW}{token}-1", [path.read_bytes()], ours=True)
    finally:
        path.unlink(missing_ok=True)
