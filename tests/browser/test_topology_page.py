"""The page Topology in a browser: edits appear by themselves, errors at their lines, and the plan of a real broker."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from runner.config.project import load_project
from runner.dashboard.web_app import create_app
from runner.dashboard.web_server import Dashboard, DashboardSettings
from runner.preparation.applied_files import keep_applied
from tests.browser.accessibility import find_violations
from tests.browser.label_check import find_unreadable
from tests.machine import in_time
from tests.rabbit import Vhost
from tests.running import ROOT, Project
from tests.web import Web


class Site:
    """The dashboard over a folder whose files are running, although the supervisor and the broker are unreachable."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address

    def edit(self, name: str, old: str, new: str) -> None:
        """Save an edit, as an editor does."""
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new, 1))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:1/")
    for name in ("topology.yaml", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins")
    keep_applied(load_project(tmp_path))
    dashboard = Dashboard(tmp_path, DashboardSettings())
    try:
        with Web(create_app(dashboard), port=0) as web:
            yield Site(tmp_path, f"http://127.0.0.1:{web.port}")
    finally:
        dashboard.close()
        dashboard.file_check.wait()
        dashboard.plan.wait()


def test_a_saved_edit_appears_by_itself_and_an_error_at_its_line(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/topology")
    changes = page.locator('[data-region="changes"]')
    expect(changes).to_contain_text("Nothing changed since the last reload")
    expect(page.locator('[data-region="plan"]')).to_contain_text("the broker is unreachable")
    # The page measures the time, because the test itself may be late on a busy machine.
    page.evaluate(
        """() => { window.shown = new Promise((resolve) => new MutationObserver(() => {
            if (document.querySelector('[data-region="changes"]').textContent.includes('50ms → 2s')) resolve(Date.now())
        }).observe(document.body, {subtree: true, childList: true, characterData: true})) }"""
    )
    site.edit("config.yaml", "latency: 50ms", "latency: 2s")
    saved = (site.folder / "config.yaml").stat().st_mtime * 1000
    expect(changes).to_contain_text("service payment options.latency 50ms → 2s")
    assert page.evaluate("window.shown") - saved < in_time(2) * 1000
    expect(page.locator("#config-18.edited")).to_contain_text("latency: 2s")
    site.edit("topology.yaml", 'orders.topic: ["order.#"]', 'orders.topik: ["order.#"]')
    link = page.get_by_role("link", name="topology.yaml:21")
    link.click()
    line = page.locator("#topology-21")
    expect(line).to_have_class("line bad edited")
    expect(line.locator("+ .note")).to_contain_text("did you mean 'orders.topic'?")
    assert find_unreadable(page) == []
    site.edit("topology.yaml", "orders.topik:", "orders.topic:")
    expect(changes).to_contain_text("service payment options.latency 50ms → 2s")
    expect(link).to_have_count(0)


def test_names_routes_and_the_filter_are_in_the_address_and_work_with_the_keyboard(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/topology")
    page.get_by_label("Exchange").focus()
    page.keyboard.type("orders.topic")
    page.keyboard.press("Tab")
    page.keyboard.type("order.created")
    route = page.locator('[data-region="route"]')
    expect(route.get_by_label("The route")).to_contain_text("'order.created.#' -> queue payment.order.created")
    assert "exchange=orders.topic&key=order.created" in page.url
    page.get_by_label("Find a name").fill("notification")
    expect(page.locator("#topology-11")).to_have_count(0)
    expect(page.locator("#topology-14")).to_be_visible()
    page.reload()
    expect(page.get_by_label("Find a name")).to_have_value("notification")
    expect(route.get_by_role("link", name="audit.events")).to_have_attribute("href", "/?node=queue+audit.events")
    link = page.locator("#topology-14 a").nth(1)
    assert link.get_attribute("href") == "/?node=queue+notification.order.events"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1920)])
def test_the_page_has_no_barrier_and_no_cut_text(
    site: Site, open_page: Callable[..., Page], screenshot: Callable[[Page, str], Path], scheme: str, width: int
) -> None:
    site.edit("topology.yaml", '"payment.*"', '"paiment.*"')
    page = open_page(width, scheme=scheme)
    page.goto(f"{site.address}/topology?exchange=payments.topic&key=payment.failed")
    expect(page.locator("#topology-18 + .note")).to_contain_text("did you mean 'payment.*'?")
    assert find_violations(page) == []
    assert find_unreadable(page) == []
    screenshot(page, f"topology-{scheme}-{width}")


@pytest.fixture
def project(tmp_path: Path, vhost: Vhost) -> Iterator[Project]:
    """A running system with a dashboard."""
    one = Project(tmp_path / "project", dashboard=True)
    try:
        runner = one.run(url=vhost.url)
        runner.wait_for("everything is RUNNING", 60)
        yield one
        runner.stop()
    finally:
        one.close()


def test_a_reload_in_the_page_applies_the_files_to_a_running_system(project: Project, vhost: Vhost, page: Page) -> None:
    page.goto(f"http://127.0.0.1:{project.dashboard_port}/topology")
    plan, changes = page.locator('[data-region="plan"]'), page.locator('[data-region="changes"]')
    expect(plan).to_contain_text("Nothing to do")
    topology = project.topology()
    topology["queues"]["reports"] = {"bind": {"orders.topic": ["order.created"]}}
    project.set_topology(topology)
    expect(changes).to_contain_text("queue reports is new, quorum")
    expect(plan).to_contain_text("The broker differs from the files: 4 to create")
    page.get_by_role("button", name="Apply…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("runner apply")
    dialog.get_by_role("button", name="Cancel").click()
    assert "reports" not in vhost.queues()
    page.get_by_role("button", name="Reload files").click()
    expect(changes).to_contain_text("Nothing changed since the last reload")
    expect(plan).to_contain_text("Nothing to do")
    assert "reports" in vhost.queues()
