"""Commands about models: what there is, what is known of it, installing and verifying."""

import os
from pathlib import Path
from typing import Any

import click

from config.catalogue import Entry, installed, shipped
from config.errors import ConfigurationError
from config.load import load
from config.settings import Settings
from dicom_node.cli_context import json_option, print_json, refuse_another_user
from dicom_node.cli_reading import said
from dicom_node.errors import UsageFault
from dicom_node.models import Models, Offer
from dicom_node.places import state_folder
from inference.errors import ModelRefused
from inference.stored import verify_weights

REFUSED = 3


@click.group()
def models() -> None:
    """The models that series are read with: list, show, install, verify, remove.

    What came with the software is read-only. What a site installs lies in its state folder (paths.state, models/), is a demonstration
    until it was evaluated there, and is chosen by read.detector.

    \b
      dicom-node models install https://example.org/nodules.zip --sha256 9f86d0...
      dicom-node models show nodules
      dicom-node evaluate detector --data DATA --output report --entry nodules
      dicom-node models verify nodules --record report/metrics.json
    """


def _settings() -> Settings:
    """The settings of this command line, the defaults without a configuration; the detector that they name may still be missing."""
    obj: Any = click.get_current_context().find_root().obj
    environ = os.environ if obj.path else {"DICOM_NODE__SITE__TIMEZONE": "UTC", **os.environ}
    return load(obj.path, environ, detector=False)


def _changing() -> Settings:
    """The same, for a command that writes into the state folder."""
    os.umask(0o077)
    settings = _settings()
    refuse_another_user(state_folder(settings))
    return settings


@models.command("list")
@json_option
def list_models(as_json: bool) -> int:
    """List every model and method: name, version, task, whether it was measured, and whether it came along or was installed."""
    settings = _settings()
    found = {**installed(Models(settings).folder), **shipped()}
    if as_json:
        print_json([_fields(e) for e in found.values() if isinstance(e, Entry)])
    else:
        click.echo(f"{'name':32} {'version':10} {'task':11} {'validation':13} {'MiB':>7}  from")
        for name, entry in sorted(found.items(), key=lambda one: (one[1].task if isinstance(one[1], Entry) else "", one[0])):
            if isinstance(entry, Entry):
                size = f"{entry.size_bytes / 2**20:.1f}" if entry.size_bytes else "-"
                click.echo(
                    f"{name:32} {entry.version:10} {entry.task:11} {entry.validation:13} {size:>7}  "
                    f"{'this site' if entry.folder else 'this software'}{_chosen(name, settings)}"
                )
            else:
                click.echo(f"{name:32} DAMAGED: {entry}")
        click.echo("`dicom-node models show NAME` tells what is known of one")
    return 1 if any(isinstance(entry, ConfigurationError) for entry in found.values()) else 0


def _chosen(name: str, settings: Settings) -> str:
    return ", read.detector" if name == settings.read.detector else ""


def _fields(entry: Entry) -> dict[str, Any]:
    return {**entry.model_dump(mode="json"), "origin": "site" if entry.folder else "software", "digest": entry.digest()}


@models.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> int:
    """All that is known of the model NAME: licence, source, digest, training data, what was measured."""
    entry = Models(_settings()).entry(name)
    if as_json:
        print_json(_fields(entry))
        return 0
    lines = {
        "name": f"{entry.name} {entry.version} ({entry.task}, method {entry.kind})",
        "text": entry.text,
        "validation": entry.validation,
        "measured": entry.measured or "nothing",
        "training": entry.training or "not said" if entry.weights else "none: a method without weights",
        "licence": entry.licence,
        "source": entry.source_url or ("this site" if entry.folder else "this software"),
        "sha256": f"{entry.sha256} ({'of its weights' if entry.weights else 'of its parameters'})",
        "size": f"{entry.size_bytes} bytes" if entry.weights else "",
        "parameters": ", ".join(f"{key} = {_value(value)}" for key, value in entry.parameters.items()),
        "chain": ", ".join(filter(None, (entry.lungs, entry.outliner, entry.grader))),
        "folder": str(entry.folder) if entry.folder else "",
    }
    for key, text in lines.items():
        if text:
            click.echo(f"{key:11} {text}")
    return 0


def _value(value: object) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)


@models.command()
@click.argument("source", metavar="URL_OR_FILE")
@click.option(
    "--sha256",
    default="",
    metavar="HEX",
    help="SHA-256 of the file, from its publisher; a URL needs it or an entry file.",
)
@click.option(
    "--entry",
    default="",
    metavar="URL_OR_FILE",
    help="Entry file that says what it is (TOML); default: entry.toml in a zip or folder, NAME.toml beside NAME.safetensors.",
)
@click.option("--name", default="", help="Name to install it under; default: the entry's.")
def install(source: str, sha256: str, entry: str, name: str) -> int:
    """Install a model: a safetensors file with its entry file, a MONAI bundle as it was published, or a zip or folder of either.

    Nothing of it is run or unpickled here. It is fetched (a cut download goes on where it stopped), its SHA-256 is compared, and only
    then it has its name. Set read.detector and start the worker again to read with it.

    Exit 2: no digest given, or no such file. 3: refused (digest, damaged, name taken, no room). 4: no network or no such address.
    """
    if sha256 and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise UsageFault("no SHA-256: 64 hexadecimal digits", sha256[:80])
    settings = _changing()
    made, new = Models(settings, _Steps()).install(Offer(source, sha256, entry, name))
    click.echo(f"{made.name} {made.version} {'is installed' if new else 'was here already'}: {made.folder}")
    click.echo(f"sha256 {made.sha256}, {made.size_bytes / 2**20:.1f} MiB, {made.validation}")
    if new and made.task == "detector":
        click.echo(f'to read with it: read.detector = "{made.name}", `dicom-node check`, and start the worker again')
    return 0


class _Steps:
    """Progress of a download, in steps of 5 % or 10 MiB."""

    def __init__(self) -> None:
        self._step = -1

    def __call__(self, done: int, total: int | None) -> None:
        step = 20 * done // total if total else done // (10 * 2**20)
        if step != self._step:
            self._step = step
            said(f"{done / 2**20:.1f}{f' of {total / 2**20:.1f}' if total else ''} MiB")


@models.command()
@click.argument("name", required=False)
@click.option(
    "--record",
    "metrics",
    type=click.Path(dir_okay=False, path_type=Path),
    help="metrics.json of `dicom-node evaluate`: marks NAME, which it measured, as measured.",
)
@json_option
def verify(name: str | None, metrics: Path | None, as_json: bool) -> int:
    """Compare the weights of NAME, or of every model, with the catalogue's SHA-256. Exit 3: one is missing or changed.

    With --record an installed model is marked as measured: by figures of exactly these weights and parameters, on patients that they
    never saw.
    """
    if metrics is not None:
        if name is None:
            raise UsageFault("name the model", "--record", "`models verify NAME --record metrics.json`")
        entry = Models(_changing()).record(name, metrics)
        click.echo(f"{entry.name}: {entry.validation}. {entry.measured}")
        click.echo("a worker that runs read with the entry as it was: start it again, or it stops at its next reader")
        return 0
    here = Models(_settings())
    found = {name: here.entry(name)} if name else {**installed(here.folder), **shipped()}
    rows = [(one, "" if isinstance(e, Entry) else str(e)) for one, e in found.items()]
    rows = [(one, fault or _fault(found[one])) for one, fault in rows]
    if as_json:
        print_json([{"name": one, "verified": not fault, "why": fault} for one, fault in rows])
    else:
        for one, fault in rows:
            click.echo(f"{'REFUSED' if fault else 'ok':8} {one}{': ' + fault if fault else ''}")
    return REFUSED if any(fault for _, fault in rows) else 0


def _fault(entry: Entry | ConfigurationError) -> str:
    try:
        if isinstance(entry, Entry):
            verify_weights(entry)
    except ModelRefused as refused:
        return str(refused)
    return ""


@models.command()
@click.argument("name")
def remove(name: str) -> int:
    """Remove the installed model NAME from the state folder. Refused (exit 3) while read.detector reads with it."""
    Models(_changing()).remove(name)
    click.echo(f"{name} is removed")
    return 0
