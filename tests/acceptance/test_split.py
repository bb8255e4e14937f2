"""Services in runners of their own, as the split containers run them; and what the container files promise."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.rabbit import Vhost
from tests.running import ROOT, Project, Runner


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


def test_the_containers_run_services_that_exist_wait_for_a_healthy_broker_and_have_no_rights() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = compose["services"]
    known = yaml.safe_load((ROOT / "config.yaml").read_text())["services"]
    assert set(services) == {"rabbitmq", "runner", "order-service", "payment-service", "notification-service"}
    assert "healthcheck" in services["rabbitmq"]
    ours = {name: service for name, service in services.items() if name != "rabbitmq"}
    for service in ours.values():
        assert service["depends_on"]["rabbitmq"]["condition"] == "service_healthy"
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert all(name in known for name in service.get("command", ["run"])[1:])
    split = [service["command"][1:] for service in ours.values() if service["profiles"] == ["split"]]
    assert sorted(name for names in split for name in names) == sorted(known)
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert dockerfile.count("FROM ") == 2
    assert "USER 10001" in dockerfile
    for word in ("runner", "plugins", "topology.yaml", "config.yaml"):
        assert f"COPY {word}" in dockerfile or f"COPY {word} " in dockerfile.replace(
            "topology.yaml ", "topology.yaml\nCOPY "
        )
