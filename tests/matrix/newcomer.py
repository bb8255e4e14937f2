"""A newcomer on a fresh system: clone, ``make run``, and the README's order until its 202."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from tests.matrix.debian import View
from tests.ports import free_port
from tests.rabbit import wait_until

#: Seconds from the clone to the first 202, including the installation of RabbitMQ over a slow network.
TIMEOUT = 600
_ORDER = b'{"customer_email":"alice@example.com","amount":149.99,"currency":"USD"}'
#: The packages that a person without root requests from an administrator, as the README says.
_BY_ADMINISTRATOR = ("apt-get", "-q", "-y", "--no-install-recommends", "install", "python3-venv", "rabbitmq-server")


def reach_202(view: View, user: str) -> float:
    """Return the seconds from the clone to the first 202. Raises AssertionError with the output."""
    if user != "root":
        view.run("useradd", "--create-home", user)
        view.run(*_BY_ADMINISTRATOR)
    port, amqp = free_port(), free_port()
    edit = f"sed -i 's/port: 8000/port: {port}/' config.yaml"
    clone = "cd && git clone -q /source fastcommerce && cd fastcommerce"
    url = f"RABBITMQ_URL=amqp://guest:guest@127.0.0.1:{amqp}/"
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            view.command("sh", "-c", f"{clone} && {edit} && exec env {url} make run", user=user),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_until(lambda: process.poll() is not None or _is_accepted(port), TIMEOUT, "the first 202")
            assert process.poll() is None, "make run ended"
            return time.monotonic() - started
        except AssertionError as error:
            output.seek(0)
            raise AssertionError(f"{error}\n{output.read()[-3000:]}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)


def _is_accepted(port: int) -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/orders", data=_ORDER, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return bool(response.status == 202)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False
