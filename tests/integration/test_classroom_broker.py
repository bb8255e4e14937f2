"""The classroom's broker: shared by the commands of a folder, and started again if it is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from runner.address import Address
from runner.broker.folder import Folder
from runner.broker.node_process import node_pid
from runner.broker.probe import Kind, probe
from runner.learn.classroom_broker import ClassroomBroker
from tests.rabbit import wait_until


def test_a_second_command_shares_the_broker_and_starts_its_own_after_the_first_has_exited(tmp_path: Path) -> None:
    with ClassroomBroker(tmp_path) as first:
        second = ClassroomBroker(tmp_path)
        with second:
            assert (first.is_own, second.is_own) == (True, False)
            assert second.address == first.address
            with second.vhost() as url:
                assert probe(Address.of(url)).kind is Kind.BROKER
            second.revive()
            assert not second.is_own, "a broker that answers is kept"
            pid = node_pid(Folder(tmp_path / "broker"))
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: probe(Address.of(first.address.url())).kind is not Kind.BROKER, 20, "the broker is gone")
            first.revive()
            assert first.is_own
            second.revive()
            assert second.address == first.address
            with second.vhost() as url:
                assert probe(Address.of(url)).kind is Kind.BROKER
