"""The command line: `dicom-node`. Settings come from --config (or DICOM_NODE_CONFIG) and the environment.

Exit codes: 0 all ended well; 1 something failed, held or dead; 2 usage or configuration; 3 a refused precondition; 4 a peer or port is
unavailable; 130 interrupted.
"""

import errno
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final

import click

from config.catalogue import chain_entries, models_folder
from config.errors import ConfigurationError, NodeError
from config.load import doubts, load, loosened
from config.settings import Settings
from config.template import render_template
from dicom_node import errors
from dicom_node.cli_deliveries import deliveries, peers
from dicom_node.cli_learn import evaluate, train
from dicom_node.cli_ledger import ledger
from dicom_node.cli_models import models
from dicom_node.cli_reading import analyse, demo, send
from dicom_node.cli_studies import hold, release, requeue, status, withdraw
from dicom_node.places import software_version, state_folder
from inference.errors import ModelRefused
from inference.methods import method_of
from inference.stored import verify_weights
from storage.errors import IdentityNeeded, LedgerOutdated, LedgerPlace, Superseded

DEFAULT_CONFIG: Final = "/etc/dicom-node/config.toml"
EXIT: Final[dict[type[BaseException], int]] = {
    ConfigurationError: 2,
    LedgerPlace: 2,
    errors.UsageFault: 2,
    errors.Precondition: 3,
    errors.NoReader: 3,
    ModelRefused: 3,
    IdentityNeeded: 3,
    Superseded: 3,
    LedgerOutdated: 3,
    errors.PortUnavailable: 4,
    errors.NotReached: 4,
    errors.NoAnswer: 4,
    errors.Refused: 4,
}


def exit_code(fault: BaseException) -> int:
    """The exit code that interfaces promise for an error."""
    return next((code for kind, code in EXIT.items() if isinstance(fault, kind)), 1)


class Faults(click.Group):
    """A group whose commands end with a sentence and the right exit code instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the file system refuses becomes a sentence too. A role keeps its traceback, for its log."""
        try:
            return super().invoke(ctx)
        except OSError as fault:
            if ctx.invoked_subcommand == "serve" or isinstance(fault, BrokenPipeError):
                raise
            which = fault.filename if isinstance(fault.filename, str) else ""
            raise errors.ServiceError(
                fault.strerror or str(fault), which, "look at the folder, its owner and its free space"
            ) from fault

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run; errors of ours become sentences."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
            sys.exit(code if isinstance(code, int) else 0)
        except click.exceptions.Abort:
            sys.exit(130)
        except KeyboardInterrupt:
            sys.exit(130)
        except click.ClickException as fault:
            fault.show()
            sys.exit(2)
        except NodeError as fault:
            click.echo(f"dicom-node: {fault}", err=True)
            sys.exit(exit_code(fault))
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)


@click.group(cls=Faults, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="DICOM_NODE_CONFIG",
    help=f"Configuration file [default: {DEFAULT_CONFIG}].",
)
@click.version_option(
    software_version(), prog_name="dicom-node", message="%(prog)s %(version)s (research software, not for diagnosis)"
)
@click.pass_context
def cli(context: click.Context, config_file: Path | None) -> None:
    """A DICOM node that reads chest CT series and answers with SEG, Structured Report and HL7 ORU.

    RESEARCH SOFTWARE - NOT FOR DIAGNOSIS.

    \b
    Begin here:
      dicom-node init -o config.toml        write a configuration with comments
      dicom-node --config config.toml check say what is wrong or loose in it
      dicom-node --config config.toml serve run the node
      dicom-node --config config.toml status --why STUDY
                                            why did nothing come of a study?

    STUDY is the ledger's number, a Study Instance UID or an accession number.

    Exit codes: 0 all ended well; 1 something failed, is held or dead; 2 usage or configuration; 3 refused as things stand; 4 a peer or port is
    unavailable; 130 interrupted.
    """
    context.obj = Configured(config_file)


class Configured:
    """Settings, loaded when a command asks for them."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._settings: Settings | None = None

    @property
    def path(self) -> Path | None:
        """The configuration file; None where there is none and the environment has to say all."""
        if self._path is not None:
            return self._path
        try:
            return Path(DEFAULT_CONFIG) if Path(DEFAULT_CONFIG).exists() else None
        except PermissionError:  # it is there for others; reading it says so
            return Path(DEFAULT_CONFIG)

    @property
    def settings(self) -> Settings:
        """All settings. Raises ConfigurationError."""
        if self._settings is None:
            if self.path is None and not any(name.startswith("DICOM_NODE__") for name in os.environ):
                raise ConfigurationError(
                    "no configuration",
                    DEFAULT_CONFIG,
                    "name one with --config, or write one: `dicom-node init -o config.toml`",
                )
            self._settings = load(self.path, os.environ)
        return self._settings

    @property
    def arguments(self) -> list[str]:
        """The part of the command line that other processes of this node need."""
        return ["--config", str(self.path)] if self.path else []


@cli.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("config.toml"),
    show_default=True,
    help="File to write.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(output: Path, force: bool) -> int:
    """Write a configuration file with every setting, its unit, its default and what it is for.

    Only what has no default must be filled in: the time zone, and who may send.
    """
    if output.exists() and not force:
        raise errors.Precondition(
            "there is a file of this name", str(output), "name another with -o, or replace it with --force"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(render_template(), encoding="utf-8")
    click.echo(
        f"{output} written. Fill in [site] timezone and [receive] calling_ae_titles, add [[pacs]] and [[ehr]], then:"
    )
    click.echo(f"  dicom-node --config {output} check")
    return 0


@cli.command()
@click.option("--peers/--no-peers", default=True, help="Also try to reach every destination (C-ECHO, TCP).")
def check(peers: bool) -> int:
    """Check the configuration, the state folder, the models, the port and the destinations; list every loosened setting.

    Nothing is sent but a C-ECHO. Exit 0: all well. 1: the state folder or a pixel decoder fails. 2: the configuration is wrong. 3: the weights
    of a model that is read with are missing or changed. 4: a peer, or the address to listen on, is unavailable; a port that is in use is only
    said, for this node may be running.
    """
    from dicom_node.peers import reach
    from inference.decoder_check import failing_decoders

    context: Configured = click.get_current_context().find_object(Configured)  # type: ignore[assignment]
    settings = context.settings
    click.echo(f"configuration   {context.path or 'environment'}: well formed")
    folder = state_folder(settings)
    fault = _not_writable(folder)
    click.echo(f"state folder    {folder}: {f'NOT writable ({fault}); see paths.state' if fault else 'writable'}")
    code = 1 if fault else 0
    told, refused = _models_of(settings)
    click.echo(f"models          {told}")
    code = code or (3 if refused else 0)
    failing = failing_decoders()
    click.echo(f"pixel decoders  {'; '.join(failing) or 'each decodes its known image'}")
    code = code or (1 if failing else 0)
    for sentence in loosened(settings):
        click.echo(f"loosened        {sentence}")
    for sentence in doubts(settings):
        click.echo(f"look at         {sentence}")
    try:
        with socket.create_server((settings.receive.host, settings.receive.port)):
            click.echo(f"port            {settings.receive.host}:{settings.receive.port} is free")
    except OSError as refusal:
        address = f"{settings.receive.host}:{settings.receive.port}"
        if refusal.errno == errno.EADDRINUSE:
            click.echo(f"port            {address} is in use: by this node, if it runs; else change receive.port")
        else:
            click.echo(
                f"port            {address} can't be listened on ({refusal.strerror}); see receive.host, receive.port"
            )
            code = code or 4
    if peers:
        for name, answer in reach(settings):
            click.echo(f"{'reached' if not answer else 'NOT reached':15} {name}{': ' + answer if answer else ''}")
            code = code or (4 if answer else 0)
    return code


def _models_of(settings: Settings) -> tuple[str, bool]:
    """What is said of the weights that a CT is read with, and whether one of them is refused."""
    told = []
    try:
        chain = chain_entries(settings.read.detector, models_folder(settings.paths.state))
    except ConfigurationError as damaged:
        return f"read.detector = {settings.read.detector!r} can't be read with: {damaged}", True
    for entry in chain:
        try:
            method_of(entry)
            verify_weights(entry)
        except (ConfigurationError, ModelRefused) as refused:
            return f"read.detector = {settings.read.detector!r} can't be read with: {refused}", True
        told.append(f"{entry.name} {entry.version}")
    return f"{', '.join(told)}: as the catalogue says", False


def _not_writable(folder: Path) -> str:
    """Why nothing can be kept in a folder ("" where it can); made where it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as fault:
        return fault.strerror or str(fault)
    return "" if os.access(folder, os.W_OK | os.X_OK) else "Permission denied"


@cli.command()
@click.option(
    "--only",
    "role",
    type=click.Choice(["receiver", "indexer", "assembler", "worker", "courier", "scheduler"]),
    help="Run one role in this process.",
)
def serve(role: str | None) -> int:
    """Run the node until SIGTERM.

    Without --only, every role runs in a process of its own under this one (desks and containers); under systemd each role is a unit.

    \b
    receiver   takes C-STORE into the spool          worker     reads series, writes results
    indexer    spool into the ledger                 courier    sends results to PACS and EHR
    assembler  completes and chooses                 scheduler  leases, retention, disk, alarms
    """
    from dicom_node.service import run_role, serve_all

    context: Configured = click.get_current_context().find_object(Configured)  # type: ignore[assignment]
    return run_role(role, context.settings) if role else serve_all(context.settings, context.arguments)


for command in (
    status,
    requeue,
    hold,
    release,
    withdraw,
    deliveries,
    peers,
    ledger,
    models,
    analyse,
    demo,
    send,
    train,
    evaluate,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of `dicom-node`."""
    logging.captureWarnings(True)
    cli()
