"""Services in runners of their own, as the split containers run them."""

from __future__ import annotations

from pathlib import Path

from tests.rabbit import Vhost
from tests.running import Project, Runner


def test_three_runners_with_one_service_each_make_the_same_system(tmp_path: Path, vhost: Vhost) -> None:
    projects = {name: Project(tmp_path / name) for name in ("order_api", "payment", "notification")}
    runners: dict[str, Runner] = {}
    try:
        for name, project in projects.items():
            project.options("payment", failure_rate=0.0)
            runners[name] = project.run("run", name, url=vhost.url)
        order = projects["order_api"].first_order()
        runners["payment"].wait_for(f"order {order}: approved")
        runners["notification"].wait_for(f"Your order {order} is paid")
        assert "payment.1" not in runners["order_api"].output
        assert [runner.stop() for runner in runners.values()] == [0, 0, 0]
    finally:
        for project in projects.values():
            project.close()


def test_an_unknown_service_is_named_with_what_is_meant(project: Project, vhost: Vhost) -> None:
    runner = project.run("run", "paymnet", url=vhost.url)
    assert runner.process.wait(15) == 78
    runner.wait_for("run: unknown service 'paymnet'; did you mean 'payment'?")
