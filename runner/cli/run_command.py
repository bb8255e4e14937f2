"""The ``run`` command, which prepares and supervises the system."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runner.cli.terminal import take_foreground
from runner.preparation.preparation_client import Preparation, PreparationRequest
from runner.supervisor.output.line import LEVELS


@click.command()
@click.argument("services", nargs=-1)
@click.option("--watch", is_flag=True, help="Watch the files and plugins, and apply each change when it is saved.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The format of log lines.",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    help="The minimum level of log lines. The debug level adds e-mail texts, published messages and acknowledgements.",
)
@click.pass_obj
def run(folder: Path, services: tuple[str, ...], watch: bool, log_format: str, log_level: str) -> None:
    """Run the services until Ctrl-C.

    Declares the objects in topology.yaml on the broker first. If no SERVICES are named, runs all services in
    config.yaml. A second Ctrl-C kills the processes that have not stopped yet.
    """
    take_foreground()
    # The preparation reads the files in a separate process, while this process imports the remaining modules.
    preparation = Preparation(PreparationRequest(str(folder), services, log_format, log_level))
    try:
        from runner.cli.supervise import supervise

        code = supervise(folder, preparation, watch=watch, log_format=log_format, log_level=log_level)
    finally:
        preparation.close()
    sys.exit(code)
