"""The page Dead letters of a running system: a poison message appears, and its edited copy is handled."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.accessibility import find_violations
from tests.browser.label_check import find_unreadable
from tests.dead_lettered import failed, held, publish
from tests.jobs import CONFIG, TOPOLOGY
from tests.ports import free_port
from tests.rabbit import Rabbit, Vhost, wait_until
from tests.running import ROOT, Project

SCRIPT = "</pre><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
HANDLER = """from runner import hookimpl, Message

@hookimpl
def handle(message: Message):
    print(f"handled {message.id}: {sorted(message.json())}")
"""
#: An error that is wider than the window, and contains a word that is wider than its card.
LONG = f"message {{}}: the body cannot be decoded as JSON: {'Expecting value ' * 20}{'x' * 200}"
RAISED = '  File "/srv/shop/plugins/jobs.py", line 64, in charge\n    raise GatewayTimeout()\nGatewayTimeout: timed out'


class System:
    """A running service for jobs with a dashboard, and a browser's page of it."""

    def __init__(self, project: Project, vhost: Vhost) -> None:
        self.project, self.vhost = project, vhost
        project.set_topology(TOPOLOGY)
        self.port = free_port()
        services = CONFIG["services"] | {"dashboard": {"options": {"port": self.port}}}
        broker = {"url": "${RABBITMQ_URL}", "management": vhost.rabbit.management}
        project.set_config({"broker": broker, "fault_injection": True, "services": services})
        project.plugin("jobs", HANDLER)
        self.runner = project.run(url=vhost.url, env={"PYTHONPATH": str(ROOT), "FASTCOMMERCE_SETTLE": "0"})
        self.runner.wait_for("everything is RUNNING")

    def dead_letter(self, *ids: str, body: bytes = b'{"n": 1}', headers: Any = None) -> None:
        """Publish messages to the dead-letter queue, as a worker does."""
        contents = []
        for id in ids:
            known = {"x-exception": "GatewayTimeout", "x-traceback": RAISED, **(headers or {})}
            _, properties = failed(id, queue="jobs", error="GatewayTimeout: timed out", **known)
            contents.append((body, properties))
        publish(self.vhost.url, "jobs.dlq", contents)

    def open(self, page: Page, query: str = "") -> None:
        """Open the page."""
        page.goto(f"http://127.0.0.1:{self.port}/dead-letters{query}")

    def files(self, word: str) -> list[str]:
        """Return the contents of the files that commands have written."""
        return [path.read_text() for path in sorted((self.project.folder / "var").glob(f"{word}-*"))]


@pytest.fixture(scope="module")
def system(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run the system for all tests of this module. Each test leaves no dead letter."""
    vhost = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}")
    project = Project(tmp_path_factory.mktemp("system") / "project")
    one = System(project, vhost)
    yield one
    code = one.runner.process.poll() or one.runner.stop()
    project.close()
    vhost.delete()
    assert code == 0


@pytest.fixture(autouse=True)
def empty(system: System) -> Iterator[None]:
    yield
    left = held(system.vhost.url, "jobs.dlq")
    system.project.call("dlq", "discard", "--all", "--yes", url=system.vhost.url)
    assert left == [0]


def group(page: Page, words: str) -> Locator:
    return page.get_by_role("link", name=re.compile(re.escape(words)))


def test_a_poison_message_appears_and_its_edited_copy_is_handled(system: System, page: Page) -> None:
    system.open(page)
    expect(page.get_by_role("heading", name="No dead letters")).to_be_visible()
    assert [*find_violations(page), *find_unreadable(page)] == []
    page.get_by_role("button", name="Publish a poison message").click()
    link = group(page, "the body cannot be decoded as JSON")
    expect(link).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_text("plugins/jobs.py:5 in handle")).to_be_visible()
    expect(page).to_have_title(re.compile("^1 dead"))
    page.get_by_role("button", name="Close").click()
    link.focus()
    page.keyboard.press("Enter")
    expect(link).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_label("Traceback", exact=True)).to_contain_text("plugins/jobs.py")
    page.get_by_role("button", name="Replay this").click()
    replay = page.get_by_role("region", name="Replay")
    expect(replay).to_contain_text("1 of 1, 1 failed again")
    expect(replay.locator("[data-job-legend]")).to_have_text("1replayed1failed again")
    expect(replay.locator("[data-job-legend] .ok")).to_have_count(0)
    replay.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Edit a copy").click()
    body = page.get_by_label("New body")
    expect(body).to_have_value(re.compile("not JSON"))
    body.fill('{"fixed": true}')
    page.get_by_role("button", name="Replay the copy").click()
    system.runner.wait_for("['fixed']")
    expect(page.get_by_role("heading", name="No dead letters")).to_be_visible()
    expect(page.get_by_label("Output of the command").last).to_contain_text("1 message replayed")
    (original,) = system.files("replaced")
    assert "not JSON" in json.loads(original)["body"]


def test_a_group_is_replayed_with_a_rate_and_the_replay_can_be_paused(system: System, page: Page) -> None:
    system.dead_letter(*(f"r{number}" for number in range(12)))
    system.open(page)
    page.get_by_role("link", name=re.compile("GatewayTimeout")).click()
    page.get_by_label("Rate messages/s").fill("1")
    page.keyboard.press("Tab")
    command = page.locator(".letters-tools [data-cli-text]")
    expect(command).to_have_text(re.compile(r"dlq replay --fingerprint [0-9a-f]{8} --rate 1$"))
    page.get_by_role("button", name="Replay group").click()
    replay = page.get_by_role("region", name="Replay")
    expect(replay).to_contain_text(re.compile(r"[1-9]\d* of 12"))
    expect(replay.locator("[data-cli-text]")).to_have_text(command.inner_text())
    page.reload()  # the replay is in the URL
    replay.get_by_role("button", name="Pause").click()
    expect(replay).to_contain_text("Paused after")
    expect(replay).to_contain_text("interrupted: ")
    left = held(system.vhost.url, "jobs.dlq")[0]
    assert 0 < left < 12
    replay.get_by_label("Rate").fill("")
    replay.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="No dead letters")).to_be_visible()
    expect(replay).to_contain_text(f"{left} messages replayed" if left > 1 else "1 message replayed")
    for number in range(12):
        system.runner.wait_for(f"handled r{number}:")


def test_selected_messages_are_discarded_after_a_question(system: System, page: Page) -> None:
    system.dead_letter("d1", "d2", "d3")
    system.open(page)
    page.get_by_role("link", name=re.compile("GatewayTimeout")).click()
    for id in ("d1", "d3"):
        page.get_by_label(f"Select {id}").check()
    system.dead_letter("d4")  # the page is rendered again, and the selection remains
    expect(page.get_by_label("Select d4")).to_be_visible()
    expect(page.get_by_label("Select d1")).to_be_checked()
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.locator(".letters-more").get_by_role("button", name="Discard").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("dlq discard --id d1 --id d3")
    dialog.get_by_role("button", name="Cancel").click()
    assert held(system.vhost.url, "jobs.dlq") == [4]
    page.locator(".letters-more").get_by_role("button", name="Discard").click()
    dialog.get_by_role("button", name="Discard").click()
    expect(page.get_by_label("Output of the command").last).to_contain_text("2 messages discarded, and written to /")
    (discarded,) = system.files("discarded")
    assert [json.loads(line)["id"] for line in discarded.splitlines()] == ["d1", "d3"]
    expect(page.get_by_label("Select d1")).to_have_count(0)
    page.get_by_role("link", name="d4", exact=True).click()
    page.get_by_role("button", name="Replay this").click()
    system.runner.wait_for("handled d4:")
    page.get_by_role("button", name="Replay all").click()
    dialog.get_by_role("button", name="Replay").click()
    system.runner.wait_for("handled d2:")
    expect(page.get_by_role("heading", name="No dead letters")).to_be_visible()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1920)])
def test_the_page_is_readable_and_a_script_in_a_message_does_not_run(
    system: System, open_page: Callable[..., Page], screenshot: Callable[..., Any], scheme: str, width: int
) -> None:
    page = open_page(width, 1080 if width > 1280 else 800, scheme)
    system.dead_letter(*(f"{uuid.uuid4()}" for _ in range(14)))
    hostile = {"x-last-error": SCRIPT, "x-traceback": SCRIPT, "x-exception": SCRIPT, "other": SCRIPT, "x-replays": 3}
    system.dead_letter(SCRIPT, body=json.dumps({"a": SCRIPT}).encode(), headers=hostile)
    system.open(page)
    page.get_by_role("link", name=re.compile("hacked")).click()
    for view in ("Headers", "Body", "Traceback"):
        page.get_by_role("link", name=view, exact=True).click()
        expect(page.get_by_label(view, exact=True)).to_contain_text("hacked")
    assert page.evaluate("window.hacked") is None
    page.get_by_role("link", name=re.compile("GatewayTimeout")).click()
    expect(page.locator("[data-select]")).to_have_count(12)
    assert [*find_violations(page), *find_unreadable(page)] == []
    screenshot(page, f"dead-letters-{scheme}-{width}")
    long = str(uuid.uuid4())
    words = LONG.format(long)
    system.dead_letter(
        long,
        headers={
            "x-last-error": words,
            "x-first-error": "first",
            "x-traceback": f"{RAISED}{words}",
            "x-exception": "BadBody",
        },
    )
    page.get_by_role("link", name=re.compile("^the body cannot be decoded")).click()
    message = page.get_by_role("region", name=f"Message {long}")
    for view in ("Traceback", "Body", "Headers"):
        message.get_by_role("link", name=view, exact=True).click()
        expect(message.get_by_label(view, exact=True)).to_be_visible()
        assert find_unreadable(page) == []
        assert message.evaluate("card => card.scrollWidth - card.clientWidth") == 0
    screenshot(page, f"dead-letters-long-error-{scheme}-{width}")
    code, output = system.project.call("dlq", "discard", "--all", "--yes", url=system.vhost.url)
    assert code == 0, output
    expect(page.get_by_role("heading", name="No dead letters")).to_be_visible()


def test_the_filter_is_in_the_url(system: System, page: Page) -> None:
    system.dead_letter("f1")
    system.dead_letter("f2", headers={"x-last-error": "ValueError: no currency", "x-exception": "ValueError"})
    system.open(page, "?text=currency")
    expect(group(page, "no currency")).to_be_visible()
    expect(group(page, "GatewayTimeout")).to_have_count(0)
    page.get_by_label("Search").fill("timed out")
    expect(group(page, "GatewayTimeout")).to_be_visible()
    expect(page).to_have_url(re.compile(r"text=timed\+out"))
    page.get_by_label("Search").fill("nothing")
    expect(page.get_by_text("2 messages do not match the filter")).to_be_visible()
    page.get_by_role("link", name="Show all dead letters").click()
    expect(group(page, "no currency")).to_be_visible()
    wait_until(
        lambda: system.project.call("dlq", "replay", "--all", url=system.vhost.url)[0] == 0, 20, "both are replayed"
    )
    expect(page.get_by_role("heading", name="No dead letters")).to_be_visible()
