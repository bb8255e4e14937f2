"""The tests of compose.yaml's containers, in their own network.

usage: ``unshare --net --mount -- python -m tests.compose.trial FOLDER``, with the image as JSON on standard input
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from runner.errors import EXIT_CONFIG
from tests.compose import server
from tests.compose.box import Box, Host
from tests.compose.file import OURS, compose
from tests.compose.image import Image
from tests.compose.system import HEALTHY_TIMEOUT, System, say
from tests.rabbit import wait_until

#: The user of both servers, and PostgreSQL's database.
USER = "fastcommerce"
#: The number of payment containers, and the number of orders. Each order is sent three times.
SCALE, ORDERS = 3, 12
#: Seconds for orders to be charged and e-mailed.
_ORDER_TIMEOUT = 60.0
_UP, _RUNNING = 0x1, 0x40  # netdevice(7): IFF_UP, IFF_RUNNING
_SIOCSIFFLAGS = 0x8914


def start_loopback() -> None:
    """Switch on the loopback interface of a new network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _UP | _RUNNING))


def post(number: int) -> tuple[int, Any]:
    """Post an order whose key is its number. Return status and answer; the status is 0 if there is no response."""
    order = {"customer_email": f"customer{number}@example.com", "amount": 10 + number, "currency": "EUR"}
    request = urllib.request.Request(
        "http://127.0.0.1:8000/orders",
        json.dumps(order).encode(),
        {"Content-Type": "application/json", "Idempotency-Key": f"key-{number}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return 0, None


def check_rights(box: Box) -> None:
    """Assert that a container has its own user, no capability, and write access only to its temporary folders."""
    none = "0000000000000000"
    expected = {"Uid": "\t".join(["10001"] * 4), "NoNewPrivs": "1"}
    expected |= {name: none for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert box.capabilities() == expected, box.capabilities()
    for place in ("/app/x", "/venv/x", "/app/config.yaml", "/app/plugins/x", "/run/broker/password", "/etc/x"):
        touched = box.run("sh", "-c", f"echo x > {place}")
        assert touched.returncode != 0, f"{place} was written"
        assert "Read-only file system" in touched.stderr, f"{place}: {touched.stderr}"
    assert box.run("sh", "-c", "echo x > /tmp/x && echo x > /app/var/x && rm /app/var/x").returncode == 0


def check_split(system: System) -> None:
    """Check that each order is charged once, although three containers charge and each order is sent three times."""
    system.up()
    for name in OURS:
        for box in system.boxes.get(name, []):
            system.wait_healthy(box)
            check_rights(box)
    say(f"all containers are healthy: {', '.join(box.name for boxes in system.boxes.values() for box in boxes)}")
    (status, first) = wait_until(lambda: (found := post(0))[0] and found, 30, "the API answers")
    assert status == 202, (status, first)
    say(f"202 for order {first['order_id']}")
    ids = {first["order_id"], *(post(number)[1]["order_id"] for number in range(1, ORDERS))}
    wait_until(lambda: _charges(system) == ORDERS, _ORDER_TIMEOUT, f"{ORDERS} orders are charged")
    # Not earlier: two containers that handle the same order at the same time both call the gateway (docs/delivery.md).
    for number in [*range(ORDERS), *range(ORDERS)]:
        status, answer = post(number)
        assert status == 202, (status, answer)
        assert answer["order_id"] in ids, (number, answer)
    handled = "select count(*) from attempts where service = 'payment' and outcome in ('handled', 'duplicate')"
    wait_until(lambda: _count(system, handled) == 3 * ORDERS, _ORDER_TIMEOUT, "audit has recorded each attempt")
    charged = system.output("payment-service").count(", payment ")
    assert (charged, _charges(system)) == (ORDERS, ORDERS), f"{charged} charges for {ORDERS} orders"
    by = [box.output.count(", payment ") for box in system.boxes["payment-service"]]
    say(f"{3 * ORDERS} deliveries of {ORDERS} orders are {ORDERS} charges, by container: {by}")
    shown = system.boxes["audit-service"][0].run("python", "-m", "runner", "order", "history", first["order_id"])
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "published by order_api" in shown.stdout, shown.stdout


def check_outage(system: System) -> None:
    """Check that a service is unhealthy without the broker, and healthy again with it and an unchanged password."""
    payment = system.boxes["payment-service"][0]
    (broker,) = system.boxes["rabbitmq"]
    assert broker.stop() == 0
    wait_until(lambda: not payment.is_healthy(), HEALTHY_TIMEOUT, "the check fails without a broker")
    say(f"without the broker: {payment.run('python', '-m', 'runner', 'status').stdout.splitlines()[-1].strip()}")
    (passwords,) = system.restart("passwords")
    assert (passwords.wait(HEALTHY_TIMEOUT), passwords.output.count(": kept")) == (0, 3), passwords.output
    system.restart("rabbitmq")
    _wait_for_a_new_charge(system)
    say("with the broker again: healthy, and a new order is charged")


def check_other_passwords(system: System) -> None:
    """Check the commands of docs/containers.md for other passwords, and for a volume without our user."""
    (broker,), (postgres,) = system.boxes["rabbitmq"], system.boxes["postgres"]
    _succeed(broker, "rabbitmqctl", "change_password", USER, "new broker@1")
    _succeed(postgres, "psql", f"--username={USER}", f"--command=ALTER USER {USER} PASSWORD 'new/database'")
    variables = {"RABBITMQ_PASSWORD": "new broker@1", "POSTGRES_PASSWORD": "new/database"}
    (refused,) = system.restart("passwords", environment=variables)
    assert refused.wait(HEALTHY_TIMEOUT) == EXIT_CONFIG, refused.output
    (passwords,) = system.restart("passwords", environment=variables, command=["--replace"])
    assert (passwords.wait(HEALTHY_TIMEOUT), passwords.output.count(": replaced")) == (0, 2), passwords.output
    for name in reversed(list(system.boxes)):
        if name in OURS:
            system.restart(name)
    _wait_for_a_new_charge(system)
    _succeed(broker, "rabbitmqctl", "delete_user", USER)
    payment = system.boxes["payment-service"][0]
    wait_until(lambda: not payment.is_healthy(), HEALTHY_TIMEOUT, "the check fails without a user")
    _succeed(broker, "sh", "-c", f'rabbitmqctl add_user {USER} "$(cat /run/broker/password)"')
    _succeed(broker, "rabbitmqctl", "set_user_tags", USER, "administrator")
    _succeed(broker, "rabbitmqctl", "set_permissions", USER, ".*", ".*", ".*")
    _wait_for_a_new_charge(system)
    say("with other passwords, and with a new user: healthy, and new orders are charged")


def check_together(system: System) -> None:
    """Check the container with all services, and its database in a volume."""
    system.up()
    (runner,) = system.boxes["runner"]
    system.wait_healthy(runner)
    check_rights(runner)
    assert post(0)[0] == 202
    wait_until(lambda: "is paid" in runner.output, _ORDER_TIMEOUT, "the order is paid")
    assert runner.run("ls", "/app/var/fastcommerce.db").returncode == 0
    say("together: healthy, 202, and the order is paid")


def _count(system: System, query: str) -> int:
    (postgres,) = system.boxes["postgres"]
    done = postgres.run("psql", f"--username={USER}", "--no-align", "--tuples-only", f"--command={query}")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def _charges(system: System) -> int:
    return _count(system, "select count(*) from charges")


def _succeed(box: Box, *command: str) -> None:
    done = box.run(*command, timeout=60)
    assert done.returncode == 0, f"{box.name}: {' '.join(command)}\n{done.stdout}{done.stderr}"


def _wait_for_a_new_charge(system: System) -> None:
    for name in ("rabbitmq", "postgres", *OURS):
        for box in system.boxes.get(name, []):
            system.wait_healthy(box)
    before = _charges(system)
    status, answer = post(ORDERS + before)
    assert status == 202, (status, answer)
    wait_until(lambda: _charges(system) == before + 1, _ORDER_TIMEOUT, "a new order is charged")


def _stop(system: System) -> None:
    codes = system.down()
    wrong = {name: code for name, code in codes.items() if code != 0}
    assert not wrong, f"stopped with other exit codes: {wrong}"
    say(f"stopped, each with exit code 0: {', '.join(codes)}")


def main() -> int:
    """Test both profiles, one after the other, with all files in the folder that the command line names."""
    folder = Path(sys.argv[1])
    given = json.load(sys.stdin)
    ours = Image(Path(given.pop("root")), **given)
    start_loopback()
    services = compose()["services"]
    lower = server.release(say)
    images = {
        services["passwords"]["image"]: ours,
        services["rabbitmq"]["image"]: server.rabbitmq(folder / "rabbitmq-image", lower),
        services["postgres"]["image"]: server.postgres(folder / "postgres-image", lower),
    }
    for which, scale in (("split", {"payment-service": SCALE}), ("together", {})):
        (folder / which).mkdir()
        system = System(Host(folder / which, list(services)), images, which, scale)
        with closing(system):
            if which == "split":
                check_split(system)
                check_outage(system)
                check_other_passwords(system)
            else:
                check_together(system)
            _stop(system)
    return 0


if __name__ == "__main__":
    sys.exit(main())
