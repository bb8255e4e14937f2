"""Commands to a running supervisor, called from any folder."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runner.supervisor.control import socket_path
from tests.load import Load
from tests.machine import in_time
from tests.ports import free_port
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import Project, Runner, plain


class Shop:
    """A project with a running supervisor, and its commands called from another folder."""

    def __init__(self, project: Project, vhost: Vhost, elsewhere: Path) -> None:
        self.project, self._url, self._elsewhere = project, vhost.url, elsewhere
        self.runner: Runner = self.run()

    def run(self) -> Runner:
        """Start a runner that does not wait after a declaration, because its broker outlives it."""
        runner = self.project.run(url=self._url, env={"FASTCOMMERCE_SETTLE": "0"})
        runner.wait_for("everything is RUNNING")
        return runner

    def command(self, *arguments: str, code: int = 0) -> str:
        """Run a command from another folder, and return its output and errors."""
        before = Path.cwd()
        os.chdir(self._elsewhere)
        try:
            found, output = self.project.call(*arguments, url=self._url)
        finally:
            os.chdir(before)
        assert found == code, output
        return output

    def slots(self) -> dict[str, Any]:
        """Return the output of ``status`` by slot."""
        return self.project.slots()

    @contextlib.contextmanager
    def orders(self) -> Iterator[list[object]]:
        """Yield a list for posted orders. At the end, wait until each order is handled completely."""
        before = self.slots()["notification.1"]["handled"]
        posted: list[object] = []
        yield posted
        all_events = before + 2 * len(posted)  # an event for the order, and one for its payment
        wait_until(lambda: self.slots()["notification.1"]["handled"] == all_events, 20, f"{all_events} handled")


@pytest.fixture(scope="module")
def lasting(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Yield a shop for the tests that leave all services running and idle."""
    vhost, folder = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}"), tmp_path_factory.mktemp("lasting")
    project = Project(folder / "project")
    project.options("payment", failure_rate=0.0, latency="0ms")
    one = Shop(project, vhost, folder)
    yield one
    code = one.runner.process.poll() or one.runner.stop()
    project.close()
    vhost.delete()
    assert code == 0


@pytest.fixture
def edited(lasting: Shop) -> Iterator[Shop]:
    """Yield the lasting shop for a test that edits its files. The files are restored afterwards."""
    folder = lasting.project.folder
    before = {path: path.read_bytes() for path in [*folder.glob("*.yaml"), *folder.glob("plugins/*.py")]}
    yield lasting
    for path in folder.glob("plugins/*.py"):
        if path not in before:
            path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
    assert lasting.command("reload").endswith("reloaded\n")


#: These tests share one runner, so they run in one process.
shared = pytest.mark.xdist_group("lasting runner")


@shared
def test_status_reports_every_slot(lasting: Shop) -> None:
    before = lasting.slots()
    with lasting.orders() as posted:
        posted.extend(lasting.project.first_order() for _ in range(5))
    slots = lasting.slots()
    assert set(slots) == {"order_api.1", "payment.1", "notification.1"}
    payment = slots["payment.1"]
    assert payment["state"] == "RUNNING"
    assert payment["why"] == "consuming payment.order.created"
    assert payment["pid"] in lasting.runner.children()
    assert (payment["handled"] - before["payment.1"]["handled"], payment["in_hand"]) == (5, 0)
    assert (slots["notification.1"]["restarts"], slots["notification.1"]["last_exit"]) == (0, None)
    assert slots["order_api.1"]["published"] - before["order_api.1"]["published"] == 5
    assert 10_000_000 < payment["memory"] < 200_000_000

    def is_at_work() -> bool:
        # The share is that of the last seconds, and 0 if the orders were handled before them.
        posted.append(lasting.project.first_order())
        return bool(lasting.slots()["payment.1"]["cpu_percent"] > 0)

    with lasting.orders() as posted:
        wait_until(is_at_work, 20, "its share of a core is shown")
    whole = json.loads(lasting.command("status", "--json"))
    assert {one["slot"] for one in whole["slots"]} == set(slots)
    assert isinstance(whole["ready"]["payment"], int)
    assert "order_api" not in whole["ready"], "it consumes no queue"
    assert list(json.loads(lasting.command("status", "payment", "--json"))["ready"]) == ["payment"]
    text = lasting.command("status")
    assert re.search(
        r"^SLOT +STATE +PID +UPTIME +RESTARTS +CPU +MEMORY +MSG/S +READY +IN FLIGHT +WHY$", text, re.MULTILINE
    )
    assert re.search(rf"^payment.1 +RUNNING +{payment['pid']} .* consuming payment.order.created$", text, re.MULTILINE)
    assert "\x1b" not in text


@shared
def test_status_shows_a_failed_slot_with_its_reason_its_last_exit_and_its_last_lines(edited: Shop) -> None:
    config = edited.project.config()
    config["services"]["broken"] = {
        "consumes": ["unrouted.all"],
        "start_timeout": "20s",
        "restart_limit": {"count": 2, "window": "60s"},
    }
    edited.project.set_config(config)
    edited.project.plugin(
        "broken",
        "from runner import hookimpl\n@hookimpl\ndef start(options, context):\n    raise ValueError('no such table')\n"
        "@hookimpl\ndef handle(message): pass\n",
    )
    assert "reloaded, but broken.1 BACKOFF: exited with status 1" in edited.command("reload", code=1)
    edited.runner.wait_for("broken.1 FATAL", 60)
    slot = edited.slots()["broken.1"]
    assert slot["state"] == "FATAL"
    assert slot["last_exit"]["words"] == "exited with status 1"
    assert "ValueError: no such table" in slot["lines"]
    text = edited.command("status", code=1)
    assert "    last exit " in text
    assert "    | ValueError: no such table" in text
    failed = edited.command("start", "broken", code=1)
    assert "broken.1 BACKOFF: exited with status 1; see: python -m runner logs broken" in plain(failed)
    edited.project.plugin("broken", "from runner import hookimpl\n@hookimpl\ndef handle(message): pass\n")
    assert edited.command("reload").endswith("reloaded\n")
    assert edited.slots()["broken.1"]["state"] == "RUNNING"


@shared
def test_status_names_the_signal_that_killed_a_worker(lasting: Shop) -> None:
    before = lasting.slots()["payment.1"]
    os.kill(before["pid"], signal.SIGKILL)

    def restarted() -> Any:
        slot = lasting.slots()["payment.1"]
        return slot if slot["state"] == "RUNNING" and slot["pid"] != before["pid"] else None

    slot = wait_until(restarted, 20, "payment.1 is restarted")
    assert slot["restarts"] == before["restarts"] + 1
    assert (slot["last_exit"]["code"], slot["last_exit"]["words"]) == (-9, "killed by SIGKILL")


@shared
def test_a_service_is_stopped_and_started_and_the_others_run_on(lasting: Shop) -> None:
    before = lasting.slots()
    assert lasting.command("stop", "payment").endswith("payment.1 stopped\n")
    assert lasting.slots()["payment.1"]["state"] == "STOPPED"
    with lasting.orders() as posted:
        posted.append(lasting.project.first_order())
        assert "payment.1 running" in lasting.command("start", "payment.1")
    assert lasting.slots()["payment.1"]["handled"] == 1
    for slot in ("order_api.1", "notification.1"):
        assert lasting.slots()[slot]["pid"] == before[slot]["pid"]


@shared
def test_a_restart_starts_the_new_process_before_it_stops_the_old_process(lasting: Shop) -> None:
    before = lasting.slots()["order_api.1"]["pid"]
    text = lasting.command("restart", "order_api")
    steps = re.findall(r"order_api.1(?:: the old process)? (RUNNING|stopped)", text)
    assert steps == ["RUNNING", "stopped"]
    assert text.endswith("order_api.1 restarted\n")
    after = lasting.slots()["order_api.1"]
    assert after["pid"] != before
    assert after["restarts"] == 0, "it was no failure"


@shared
def test_the_old_process_keeps_working_if_a_new_version_does_not_get_ready(edited: Shop) -> None:
    before = edited.slots()["payment.1"]["pid"]
    path = edited.project.folder / "plugins" / "payment.py"
    good = path.read_text()
    path.write_text(good + "\n@hookimpl\ndef start(options, context):\n    raise RuntimeError('wrong version')\n")
    text = edited.command("reload", code=1)
    problem = "the new process did not become ready: exited with status 1; the old process keeps running"
    assert f"payment.1: {problem}; see: python -m runner logs payment" in plain(text)
    assert edited.slots()["payment.1"]["pid"] == before
    path.write_text(good)
    assert edited.command("reload").endswith("reloaded\n")
    assert edited.slots()["payment.1"]["pid"] == before, "nothing differs from what runs"


@shared
def test_scaling_affects_no_other_process(lasting: Shop) -> None:
    before = {slot: one["pid"] for slot, one in lasting.slots().items()}
    assert lasting.command("scale", "payment", "3").endswith("payment scaled from 1 to 3\n")
    wider = {slot: one["pid"] for slot, one in lasting.slots().items()}
    assert set(wider) - set(before) == {"payment.2", "payment.3"}
    assert lasting.command("scale", "payment", "1").endswith("payment scaled from 3 to 1\n")
    assert {slot: one["pid"] for slot, one in lasting.slots().items()} == before
    assert "IntRange" not in lasting.command("scale", "payment", "65", code=2)


@shared
def test_errors_for_unknown_names_list_the_allowed_names(lasting: Shop) -> None:
    assert "unknown service, 'paymnt'; allowed: notification, order_api, payment" in lasting.command(
        "stop", "paymnt", code=1
    )
    assert "unknown slot, 'payment.7'; allowed: payment.1" in lasting.command("restart", "payment.7", code=1)
    assert "unknown service, 'nix'" in lasting.command("logs", "nix", code=1)


@shared
def test_the_api_moves_to_another_address_with_the_same_port_without_refusing_a_connection(edited: Shop) -> None:
    edited.project.options("order_api", host="0.0.0.0", allowed_hosts=["*"])
    with edited.orders() as posted:
        load = Load(edited.project.port, 50, clients=8)
        assert edited.command("reload").endswith("reloaded\n")
        answers = load.stop()
        posted.extend(answers)
    assert edited.slots()["order_api.1"]["why"] == f"listening on http://0.0.0.0:{edited.project.port}"
    assert {answer.status for answer in answers} == {202}


@shared
def test_a_reload_refuses_a_wrong_file_with_the_reason(edited: Shop) -> None:
    before = {slot: one["pid"] for slot, one in edited.slots().items()}
    config = edited.project.config()
    config["services"]["payment"]["consumes"] = ["payment.order.creatd"]
    edited.project.set_config(config)
    text = edited.command("reload", code=78)
    assert "unknown queue 'payment.order.creatd'; did you mean 'payment.order.created'?" in text
    assert "not reloaded; all services keep running unchanged" in text
    assert {slot: one["pid"] for slot, one in edited.slots().items()} == before


@shared
def test_sighup_reloads_the_files(edited: Shop) -> None:
    before = edited.runner.output.count("files reloaded")
    config = edited.project.config()
    config["services"]["payment"]["instances"] = 2
    edited.project.set_config(config)
    edited.runner.process.send_signal(signal.SIGHUP)
    edited.runner.wait_for("files reloaded", count=before + 1)
    wait_until(lambda: edited.slots().get("payment.2", {}).get("state") == "RUNNING", 30, "the second process runs")


def test_closing_the_terminal_s_window_stops_everything(project: Project, vhost: Vhost) -> None:
    config = project.config()
    del config["services"]["notification"]
    project.set_config(config)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.folder)
        os.execve(sys.executable, [sys.executable, "-m", "runner"], {**os.environ, "RABBITMQ_URL": vhost.url})
    shown = b""
    while b"everything is RUNNING" not in shown:
        shown += os.read(terminal, 4096)
    assert b"\x1b[" in shown, "in colours"
    os.close(terminal)
    ended: list[int] = []

    def has_ended() -> bool:
        ended[:] = os.waitpid(pid, os.WNOHANG)
        return ended[0] == pid

    wait_until(has_ended, 15)
    assert os.waitstatus_to_exitcode(ended[1]) == 0
    assert project.post()[0] == 0


def test_status_reports_that_all_services_wait_for_an_unreachable_broker(project: Project) -> None:
    config = project.config()
    config["broker"]["autostart"] = False
    project.set_config(config)
    runner = project.run(url=f"amqp://guest:guest@127.0.0.1:{free_port()}/")
    runner.wait_for("order_api.1, payment.1, notification.1 WAITING for the broker")
    code, output = project.call("status")
    assert code == 1
    assert re.search(r"payment.1 +WAITING .* waiting for 127.0.0.1:\d+: connection refused", output)
    assert runner.stop() == 0


@shared
def test_logs_prints_earlier_output_and_follows_new_output(lasting: Shop) -> None:
    with lasting.orders() as posted:
        order = lasting.project.first_order()
        posted.append(order)
    wait_until(lambda: "is paid" in lasting.command("logs"), 10)
    text = lasting.command("logs", "payment", "--lines", "2")
    assert len(text.splitlines()) == 2
    assert all(re.match(r"\d\d:\d\d:\d\d payment.1      \| order", line) for line in text.splitlines())
    assert order in text
    assert "RUNNING" in lasting.command("logs", "runner")
    (last,) = lasting.command("logs", "payment.1", "-n", "1", "--json").splitlines()
    assert json.loads(last)["slot"] == "payment.1"
    follower = Runner(
        [sys.executable, "-m", "runner", "--project", str(lasting.project.folder), "logs", "-f", "-n", "0", "payment"],
        lasting.project.folder,
    )
    wait_until(lambda: len(lasting.runner.lines) and follower.process.poll() is None, 5)

    def is_followed() -> bool:
        posted.append(lasting.project.first_order())
        return "approved, payment" in follower.output

    with lasting.orders() as posted:
        wait_until(is_followed, 10)
    assert "order_api" not in follower.output
    assert follower.stop(signal.SIGINT) == 130


@shared
def test_logs_prints_the_lines_of_an_order_in_causal_order(lasting: Shop) -> None:
    with ThreadPoolExecutor(8) as pool, lasting.orders() as posted:
        orders = [body["order_id"] for _, body in pool.map(lambda _: lasting.project.post(), range(40))]
        posted.extend(orders)
    for order in orders:
        lasting.runner.wait_for(f"e-mail .*Your order {order} (is paid|could not be paid)")
    causes = (
        "accepted",
        "received from payment.order.created",
        "payment ",
        "received from notification.payment.events",
    )
    for order in orders:
        lines = [line for line in lasting.runner.lines if order in line]
        places = [next(at for at, line in enumerate(lines) if cause in line) for cause in causes]
        assert places == sorted(places), lines
    found = lasting.command("logs", "--order", f"{orders[0][:8]}…").splitlines()
    assert len(found) == len([line for line in lasting.runner.lines if orders[0] in line])
    assert all(orders[0] in line for line in found)
    assert len(lasting.command("logs", "payment", "--order", orders[0]).splitlines()) == 2
    assert "too short, 'abc'; allowed: 4 characters or more" in lasting.command("logs", "--order", "abc", code=2)


def test_commands_report_a_project_whose_runner_was_never_started(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "logs"],
        cwd=project.folder, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert plain(done.stderr) == f"no supervisor is running in {project.folder}; start it with: python -m runner\n"


def raw(shop: Shop, request: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection, socket_path(shop.project.folder / "var") as path:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            answer: dict[str, Any] = json.loads(stream.readline())
            return answer


@shared
def test_the_socket_is_private_to_its_user_and_accepts_one_protocol_version(lasting: Shop) -> None:
    mode = (lasting.project.folder / "var" / "runner.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert raw(lasting, b'{"version": 1, "command": "status"}\n')["ok"]
    assert "unknown protocol version, 2; this supervisor uses version 1" in raw(lasting, b'{"version": 2}\n')["error"]
    assert "unknown command, 'dance'" in raw(lasting, b'{"version": 1, "command": "dance"}\n')["error"]
    assert "invalid request" in raw(lasting, b"hello\n")["error"]
    for rubbish in (b"[]\n", b"\xff\xfe\n", b"null\n", b'{"version": 1, "command": "scale", "instances": "x"}\n'):
        assert raw(lasting, rubbish)["ok"] is False


@shared
def test_silent_clients_delay_no_other_client(lasting: Shop) -> None:
    silent = []
    with socket_path(lasting.project.folder / "var") as path:
        for _ in range(20):
            one = socket.socket(socket.AF_UNIX)
            one.connect(path)
            silent.append(one)
    started = time.monotonic()
    lasting.command("status")
    assert time.monotonic() - started < in_time(3)
    for one in silent:
        one.close()


@pytest.fixture
def shop(tmp_path: Path, vhost: Vhost) -> Iterator[Shop]:
    """Run one service in a folder whose path is too long for a socket."""
    project = Project(tmp_path / ("deep" * 20) / ("er" * 30) / "project")
    assert len(str(project.folder)) > 108
    config = project.config()
    config["services"] = {"payment": config["services"]["payment"]}
    project.set_config(config)
    yield Shop(project, vhost, tmp_path)
    project.close()


def test_a_socket_that_a_killed_runner_left_is_replaced_and_down_waits_for_the_next_runner_to_stop(
    shop: Shop,
) -> None:
    socket_file = shop.project.folder / "var" / "runner.sock"
    assert "payment.1" in shop.command("status")
    shop.runner.process.kill()
    shop.runner.process.wait()
    assert socket_file.exists()
    assert "no supervisor is running in" in shop.command("status", code=1)
    again = shop.run()
    text = shop.command("down")
    assert "stopping: requested by 'down'" in text
    assert text.endswith("stopped\n")
    assert again.process.wait(15) == 0
    assert not socket_file.exists()
    assert f"no supervisor is running in {shop.project.folder}" in shop.command("status", code=1)
    assert "start it with: python -m runner" in plain(shop.command("down", code=1))
