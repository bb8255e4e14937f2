"""The command ``python -m tests.screenshots``: writes docs/images/ from the dashboard of a running system with traffic.

The system has two payment processes, of which one was killed, retries, dead letters and a steady flow of orders.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import FLAGS, WINDOW, executable
from tests.rabbit import Rabbit, wait_until
from tests.running import ALICE, ROOT, Project, Runner

FOLDER = ROOT / "docs" / "images"
#: Seconds of traffic before the first picture, so that charts and figures have content.
TRAFFIC_SECONDS = 25
#: Orders per second.
RATE = 6
#: The pages: the file's name, the path, and the color schemes.
PAGES = (
    ("flow", "/?key=order.created&exchange=orders.topic", ("light", "dark")),
    ("orders", "/orders", ("light",)),
    ("order", "/orders/{order}", ("light", "dark")),
    ("slow-motion", "/?order={order}&slow=10", ("light",)),
    ("services", "/services?slot=payment.1", ("light",)),
    ("dead-letters", "/dead-letters", ("light",)),
    ("topology", "/topology", ("light",)),
    ("learn", "/learn", ("light",)),
)


def main() -> int:
    """Write the pictures, and print their names."""
    with tempfile.TemporaryDirectory() as folder, _system(Path(folder)) as project, sync_playwright() as playwright:
        order = _retried_order(project)
        chromium = playwright.chromium.launch(executable_path=executable(), args=[*FLAGS])
        FOLDER.mkdir(exist_ok=True)
        for name, path, schemes in PAGES:
            for scheme in schemes:
                size = {"width": WINDOW[0], "height": WINDOW[1]}
                context = chromium.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
                target = FOLDER / f"{name}-{scheme}.png"
                _picture(context.new_page(), project, path.format(order=quote(order)), target)
                context.close()
                print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1024:.0f} KiB")
        chromium.close()
    return 0


def _picture(page: Page, project: Project, path: str, target: Path) -> None:
    page.goto(f"http://127.0.0.1:{project.dashboard_port}{path}")
    page.locator("[data-live].ok").wait_for(timeout=20_000)
    # The first dots appear one second after their steps, and rates need a few seconds.
    page.wait_for_timeout(4000)
    page.screenshot(path=target)


@contextlib.contextmanager
def _system(folder: Path) -> Iterator[Project]:
    """Run a system with traffic, dead letters and a killed process."""
    node = Rabbit(folder / "broker")
    project = Project(folder / "shop", audit=True, dashboard=True)
    config = project.config()
    config["fault_injection"] = True
    config["services"]["payment"] |= {"instances": 2, "options": {"timeout_rate": 0.25, "latency": "60ms"}}
    project.set_config(config)
    is_over = threading.Event()

    def post() -> None:
        count = 0
        while not is_over.wait(1 / RATE):
            count += 1
            project.post(ALICE | {"customer_email": f"customer{count % 40}@example.com", "amount": 20 + count % 80})

    # The program is on the path, so that the pictures show short command lines.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    runner = Runner(["fastcommerce"], project.folder, {"RABBITMQ_URL": node.url, "PATH": path})
    try:
        runner.wait_for("everything is RUNNING", 60)
        thread = threading.Thread(target=post, daemon=True)
        thread.start()
        project.call("fault", "poison", "payment.order.created", url=node.url)
        time.sleep(TRAFFIC_SECONDS / 2)
        project.call("fault", "kill", "payment.2", url=node.url)
        runner.wait_for("payment.2 RUNNING", 60, count=2)
        time.sleep(TRAFFIC_SECONDS / 2)
        yield project
        is_over.set()
        thread.join(10)
    finally:
        is_over.set()
        runner.stop()
        with contextlib.redirect_stdout(io.StringIO()):  # the log of the system
            project.close()
        node.stop()


def _retried_order(project: Project) -> str:
    """Return the id of an order whose payment failed at least once and was paid in the end."""

    def found() -> str | None:
        code, output = project.call("order", "list", "--json", "--limit", "300")
        orders = json.loads(output)["orders"] if code == 0 else []
        # Two retry delays of the shipped topology take 6 s.
        times = {one["order_id"]: one["decided_after"] or 0 for one in orders}
        return max((order for order in times if 6 <= times[order] < 12), key=times.__getitem__, default=None)

    return str(wait_until(found, 60, "an order is paid after two retries"))


if __name__ == "__main__":
    sys.exit(main())
