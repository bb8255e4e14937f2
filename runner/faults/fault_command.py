"""``fault``: break something on purpose, and be told what to expect of it."""

from __future__ import annotations

import click

from runner.faults.broker_fault import broker_restart
from runner.faults.lasting_faults import clear, cut, list_, slow
from runner.faults.message_faults import duplicate, poison
from runner.faults.process_faults import hang, kill


@click.group(short_help="Break something on purpose: kill, hang, slow, duplicate, poison, cut, broker-restart.")
def fault() -> None:
    """Break something on purpose, and be told what to expect of it and what to look at.

    Only where config.yaml says faults: true, and where broker and database are this machine's. What lasts ends by
    itself; "clear" ends it at once.
    """


for _command in (broker_restart, clear, cut, duplicate, hang, kill, list_, poison, slow):
    fault.add_command(_command)
