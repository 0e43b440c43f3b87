"""Commands that read or send folders of files: `analyse` (here and now), `demo` (the whole way), `send` (to a node)."""

import os
import sys
from pathlib import Path

import click

from config.load import load
from dicom_node.cli_context import settings_here
from dicom_node.errors import Precondition, UsageFault
from dicom_node.logs import configure
from dicom_node.places import software_version, utc_now
from dicom_node.results.context import Device


def files_of(folder: Path) -> list[Path]:
    """Every file below a folder, hidden ones and DICOMDIR left out. Raises UsageFault for an empty one."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".") and p.name != "DICOMDIR")
    if not found:
        raise UsageFault("no files in this folder", str(folder), "name a folder of DICOM files")
    return found


def said(text: str) -> None:
    """Progress, on standard error; one line on a terminal."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K  {text}", err=True, nl=False)
    else:
        click.echo(f"  {text}", err=True)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for summary.json, objects/ and debug/; must be new or empty.",
)
def analyse(folder: Path, output: Path) -> int:
    """Read a FOLDER of DICOM files here and now: no node, no network, no database.

    Writes OUTPUT/summary.json, OUTPUT/objects/ (SEG, SR, picture) and OUTPUT/debug/candidates.json. The age of a study is not judged, and the
    result says so. Without a configuration the defaults hold. Exit 1: a series failed, or nothing in the folder was DICOM.
    """
    from dicom_node.analyse import analyse as run

    configure("warning", "analyse")
    obj = click.get_current_context().find_root().obj
    settings = load(obj.path, os.environ if obj.path else {"DICOM_NODE__SITE__TIMEZONE": "UTC", **os.environ})
    if output.exists() and any(output.iterdir()):
        raise Precondition("the folder is not empty", str(output), "name a new one with --output")
    output.mkdir(parents=True, exist_ok=True)
    device = Device(
        ae_title=settings.receive.ae_title,
        serial=settings.site.device_serial or "analyse",
        software_version=software_version(),
    )
    analysis = run(files_of(folder), output, settings, device, utc_now(), say=said)
    click.echo("", err=True)
    for entry in analysis.entries:
        found = f"{len(entry['nodules'])} nodules" if entry["nodules"] is not None else ""
        reason = entry["reason"]["text"] if entry["reason"] else ""
        click.echo(f"{entry['modality']:4} {entry['status']:13} {'; '.join(filter(None, (found, reason)))}")
    if analysis.not_dicom:
        click.echo(f"{analysis.not_dicom} files were no DICOM instances")
    for picture in analysis.pictures:
        click.echo(str(picture))
    click.echo(str(output / "summary.json"))
    return 1 if analysis.failed or not analysis.entries else 0


@click.command()
@click.option(
    "--input",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of DICOM files; without it, phantoms are made.",
)
@click.option(
    "--output",
    default=Path("demo-output"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for everything that comes of it.",
)
def demo(folder: Path | None, output: Path) -> int:
    """The whole way on this machine: a node and a small hospital (PACS and EHR) on loopback.

    Sends phantoms (or the files of --input) to the node by C-STORE and shows what comes back: a table, the message, a picture.
    """
    from dicom_node.demo.run import run_demo

    return run_demo(files_of(folder) if folder else None, output)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--to",
    "address",
    metavar="AE@HOST:PORT",
    help="Whom to send to; default: this configuration's own receiver on loopback.",
)
@click.option("--as", "calling", default="SENDER", show_default=True, help="Calling AE title.")
def send(folder: Path, address: str | None, calling: str) -> int:
    """Send a FOLDER (or one file) of DICOM by C-STORE, to try a node.

    Exit 4: not reached. 1: something was refused, or nothing was DICOM.
    """
    from dicom_node.net.send import Address, send_files

    if address:
        title, _, where = address.partition("@")
        host, _, port = where.rpartition(":")
        if not (title and host and port.isdecimal() and 1 <= int(port) <= 65535):
            raise UsageFault("not of the form AE@HOST:PORT", address, "for example DICOMNODE@127.0.0.1:11112")
        target = Address(title, host, int(port))
    else:
        receive = settings_here().receive
        target = Address(receive.ae_title, "127.0.0.1" if receive.host == "0.0.0.0" else receive.host, receive.port)
    files = [folder] if folder.is_file() else files_of(folder)
    outcome = send_files(files, target, calling_ae=calling, progress=lambda done, total: said(f"{done} of {total}"))
    click.echo("", err=True)
    click.echo(f"{outcome.stored} stored, {outcome.refused} refused, {outcome.skipped} no DICOM")
    return 1 if outcome.refused or not outcome.stored else 0
