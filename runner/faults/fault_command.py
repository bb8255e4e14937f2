"""The ``fault`` command group, whose commands inject faults."""

from __future__ import annotations

import click

from runner.faults.broker_fault import broker_restart
from runner.faults.lasting_faults import clear, disconnect, list_, slow
from runner.faults.message_faults import duplicate, poison
from runner.faults.process_faults import kill, pause


@click.group(short_help="Break something on purpose: kill, pause, slow, duplicate, poison, disconnect, broker-restart.")
def fault() -> None:
    """Break something on purpose. Each command prints the expected effects, and the commands that show these effects.

    Requires 'fault_injection: true' in config.yaml, and a broker and a database on this machine. Faults with a time
    limit end automatically. The clear command ends all faults immediately.
    """


for _command in (broker_restart, clear, disconnect, duplicate, kill, list_, pause, poison, slow):
    fault.add_command(_command)
