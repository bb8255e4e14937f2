"""The page Learn in a browser: a whole exercise, the projector, and the keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from runner.dashboard.lesson_watch import KeptBroker
from runner.dashboard.web_app import create_app
from runner.dashboard.web_server import Dashboard, DashboardSettings
from runner.learn.last_result import fingerprint_of
from runner.learn.verdict import ExerciseResult, TaskResult, Verdict
from runner.learn.workspace import FOLDER, Workspace
from tests.browser.accessibility import find_violations
from tests.browser.label_check import find_unreadable
from tests.web import Web

#: Milliseconds for a check on a busy machine, which may have to start RabbitMQ.
CHECK_MS = 90_000
#: Pixels of the smallest text on a projector.
LEAST_SIZE = 24


class Site:
    """The dashboard over an empty folder."""

    def __init__(self, dashboard: Dashboard, address: str) -> None:
        self.dashboard, self.address = dashboard, address
        self.exercises = dashboard.lessons.exercises

    @property
    def workspace(self) -> Workspace:
        """The learner's folder."""
        return Workspace(self.dashboard.folder / FOLDER)

    def note(self, number: int, *verdicts: Verdict) -> None:
        """Store the result of a check of the current files."""
        exercise = self.exercises[number - 1]
        self.workspace.start(exercise)
        tasks = [
            TaskResult(
                task.id, task.title, verdict, 0, task.points, expected="2 messages", saw="3 messages",
                say="The key has three words.", look="topology.yaml:22", line="    bind: {orders.topic: []}",
            )
            for task, verdict in zip(exercise.file.tasks, verdicts, strict=True)
        ]  # fmt: skip
        result = ExerciseResult(exercise.name, exercise.file.title, tasks)
        self.workspace.note(exercise, result, fingerprint_of(self.workspace.path(exercise)))


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a page without a check from starting RabbitMQ."""
    monkeypatch.setattr(KeptBroker, "keep", lambda _: None)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    dashboard = Dashboard(tmp_path, DashboardSettings())
    try:
        with Web(create_app(dashboard), port=0) as web:
            yield Site(dashboard, f"http://127.0.0.1:{web.port}")
    finally:
        dashboard.close()


def test_an_exercise_is_passed_in_the_page(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/learn/04-topics")
    page.get_by_role("button", name="Start exercise 4").click()
    expect(page.get_by_role("heading", name="First a prediction")).to_be_visible()
    page.get_by_label("only order.created.usd").check()
    shown = page.locator("form[data-fields] [data-cli-text]")
    expect(shown).to_have_text(re.compile(r" learn predict 4 a$"))
    # Another command, such as a hint in a terminal, renders the question again. The choice stays.
    region = page.locator('[data-region="work"]')
    version = region.get_attribute("data-version") or ""
    with site.workspace.changed(site.exercises[3]) as record:
        record.started_at = 1.0
    expect(region).not_to_have_attribute("data-version", version)
    expect(page.get_by_label("only order.created.usd")).to_be_checked()
    expect(shown).to_have_text(re.compile(r" learn predict 4 a$"))
    page.get_by_role("button", name="Predict").click()
    tasks = page.locator("[data-task]")
    expect(tasks).to_have_count(2)
    page.get_by_role("button", name="Show hint 1").click()
    expect(page.get_by_role("button", name="Show hint 2")).to_be_visible()
    path = site.workspace.path(site.exercises[3]) / "topology.yaml"
    solution = (site.exercises[3].folder / "solution" / "topology.yaml").read_text()
    path.write_text(solution.replace('["order.*"]', '["order.#"]'))
    expect(tasks.nth(0)).to_have_attribute("data-verdict", "pass", timeout=CHECK_MS)
    expect(tasks.nth(1)).to_have_attribute("data-verdict", "fail")
    expect(tasks.nth(1)).to_contain_text("`*` stands for exactly one")
    path.write_text(solution)
    expect(tasks.nth(1)).to_have_attribute("data-verdict", "pass", timeout=CHECK_MS)
    expect(page.get_by_text("You predicted: only order.created.usd. What happened:")).to_be_visible()
    page.get_by_label("payment.success.eu").check()
    page.get_by_role("button", name="Answer").click()
    expect(page.get_by_text("You answered: payment.success.eu. Right.")).to_be_visible()
    record = site.workspace.progress.exercises["04-topics"]
    assert (record.hints, record.points, record.review) == (1, 3, "payment.success.eu")
    assert record.prediction == "only order.created.usd"
    assert record.passed_at is not None


@pytest.mark.usefixtures("no_broker")
def test_a_button_says_what_its_command_does_and_the_picture_shows_no_figure_as_bad(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/learn/04-topics")
    start = page.get_by_role("button", name="Start exercise 4")
    page.evaluate(
        """() => { window.labels = []; new MutationObserver(() => {
            const text = document.querySelector('[data-action="learn_start"]')?.textContent;
            if (text && text !== window.labels.at(-1)) window.labels.push(text);
            sessionStorage.setItem('labels', JSON.stringify(window.labels));
        }).observe(document.body, {subtree: true, childList: true, characterData: true}) }"""
    )
    start.click()
    expect(page.get_by_role("heading", name="First a prediction")).to_be_visible()
    assert "Starting the exercise …" in page.evaluate("JSON.parse(sessionStorage.getItem('labels'))")
    colors = page.locator(".lesson-picture .badge.dead").evaluate_all(
        """(badges) => badges.flatMap((one) => [...one.querySelectorAll('rect, path, text')]).map((part) => {
            const [red, green, blue] = getComputedStyle(part).fill.match(/\\d+/g).map(Number);
            return Math.max(red, green, blue) - Math.min(red, green, blue);
        })"""
    )
    assert colors
    assert max(colors) < 40


def test_an_empty_page_starts_the_first_exercise(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/learn")
    page.get_by_role("button", name="Start the first exercise").click()
    page.wait_for_url("**/learn/01-first-event")
    expect(page.get_by_role("heading", name="First a prediction")).to_be_visible()
    page.get_by_role("link", name="Exercises").click()
    expect(page.get_by_role("link", name="Continue with exercise 1")).to_be_visible()


@pytest.mark.usefixtures("no_broker")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1920)])
def test_the_pages_have_no_barrier_and_no_cut_text(
    site: Site, open_page: Callable[..., Page], screenshot: Callable[[Page, str], Path], scheme: str, width: int
) -> None:
    site.note(4, Verdict.PASS, Verdict.FAIL)
    page = open_page(width, scheme=scheme)
    for address, name in (("", "list"), ("/04-topics", "exercise"), ("/01-first-event", "new")):
        page.goto(f"{site.address}/learn{address}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert find_violations(page) == []
        assert find_unreadable(page) == []
        screenshot(page, f"learn-{name}-{scheme}-{width}")


@pytest.mark.usefixtures("no_broker")
def test_the_projector_is_large_and_moves_with_the_keyboard(
    site: Site, open_page: Callable[..., Page], screenshot: Callable[[Page, str], Path]
) -> None:
    site.note(4, Verdict.PASS, Verdict.FAIL)
    page = open_page()
    page.goto(f"{site.address}/learn/04-topics?projector=1")
    expect(page.get_by_role("heading", level=2)).to_contain_text("A queue is bound to a topic exchange")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**slide=1**")
    page.keyboard.press("PageDown")
    page.wait_for_url("**slide=2**")
    verdict = page.locator("[data-task]")
    expect(verdict).to_contain_text("Not yet")
    expect(verdict).to_contain_text("The key has three words.")
    assert find_violations(page) == []
    assert find_unreadable(page) == []
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('main :not(svg, svg *)')].filter((one) => one.checkVisibility() &&
            [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim())
        ).map((one) => parseFloat(getComputedStyle(one).fontSize))"""
    )
    assert min(sizes) >= LEAST_SIZE
    screenshot(page, "learn-projector-light-1280")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**slide=1**")
    page.keyboard.press("Escape")
    page.wait_for_url("**/learn/04-topics")
    expect(page.get_by_role("heading", name="Tasks")).to_be_visible()
