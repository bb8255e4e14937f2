"""The page Topology and the routes of the Flow page, without a supervisor and without a broker."""

from __future__ import annotations

import json
import logging
import random
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from runner.cli.main import main
from runner.cli.plan_command import EXIT_MEANINGS, plan
from runner.config.project import load_project
from runner.dashboard import plan_comparison
from runner.dashboard.plan_comparison import PlanComparison, PlanResult
from runner.dashboard.web_app import create_app
from runner.dashboard.web_server import Dashboard, DashboardSettings
from runner.errors import EXIT_BROKER
from runner.http.flask_views import answer_problems
from runner.preparation.applied_files import keep_applied
from tests.rabbit import wait_until
from tests.running import ROOT

#: A port on which nothing listens.
NOWHERE = "amqp://guest:guest@127.0.0.1:1/"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose files are running, although its broker is unreachable."""
    monkeypatch.setenv("RABBITMQ_URL", NOWHERE)
    for name in ("topology.yaml", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins")
    keep_applied(load_project(tmp_path))
    return tmp_path


@pytest.fixture
def dashboard(folder: Path) -> Iterator[Dashboard]:
    one = Dashboard(folder, DashboardSettings())
    yield one
    one.file_check.wait()
    one.plan.wait()
    one.close()


@pytest.fixture
def client(dashboard: Dashboard) -> FlaskClient:
    app = create_app(dashboard)
    answer_problems(app, logging.getLogger("test"))
    return app.test_client()


def text_of(client: FlaskClient, address: str) -> str:
    """Return a page as text on one line, without markup."""
    answer = client.get(address)
    assert answer.status_code == 200
    text = re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True))
    return " ".join(text.replace("&#39;", "'").replace("&#34;", '"').replace("&gt;", ">").split())


def edit(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


def test_the_page_works_without_a_supervisor_or_a_broker(client: FlaskClient, dashboard: Dashboard) -> None:
    text = text_of(client, "/topology")
    assert "3 exchanges, 5 queues and 17 more for retries and dead letters" in text
    assert "Nothing changed since the last reload" in text
    dashboard.file_check.wait()
    dashboard.plan.wait()
    text = text_of(client, "/topology")
    assert "Not compared: the broker is unreachable" in text
    assert "topology.yaml no findings of lint" in text


def test_each_error_is_at_its_line_and_the_running_topology_stays(client: FlaskClient, folder: Path) -> None:
    edit(folder, "topology.yaml", 'bind: {orders.topic: ["order.#"]', 'bind: {orders.topik: ["order.#"]')
    edit(folder, "config.yaml", "instances: 1", "instances: many")
    page = client.get("/topology").get_data(as_text=True)
    for place, error in (
        ("topology-21", "unknown exchange &#39;orders.topik&#39;; did you mean &#39;orders.topic&#39;?"),
        ("config-16", "services.payment.instances: not a whole number, &#39;many&#39;"),
    ):
        assert f'href="#{place}"' in page
        line, _, after = page.partition(f'id="{place}"')[2].partition("</div>")
        assert line
        assert error in after.partition('<div class="line')[0]
    assert "2 errors" in page
    assert "A reload is refused until the errors are fixed" in page
    routed = client.get("/route.json?exchange=orders.topic&key=order.created").get_json()
    assert routed["queues"] == ["payment.order.created", "notification.order.events", "audit.events"]


def test_an_edit_is_shown_in_words_and_lint_findings_at_their_lines(
    client: FlaskClient, dashboard: Dashboard, folder: Path
) -> None:
    edit(folder, "topology.yaml", '"payment.*"', '"paiment.*"')
    assert "binding payments.topic -(paiment.*)-> notification.payment.events is new topology.yaml:18" in text_of(
        client, "/topology"
    )
    dashboard.file_check.wait()
    text = text_of(client, "/topology")
    assert '18 bind: { payments.topic : ["paiment.*"]} unmatched-binding payments.topic paiment.* : no message' in text
    assert "findings of lint Probable mistakes in valid files" in text
    keep_applied(load_project(folder))
    assert "Nothing changed since the last reload" in _after_reload(client, dashboard)


def _after_reload(client: FlaskClient, dashboard: Dashboard) -> str:
    dashboard.collector.watched.read()
    return text_of(client, "/topology")


def test_an_edit_is_sent_to_open_pages_between_two_frames(dashboard: Dashboard, folder: Path) -> None:
    events: list[bytes] = []
    dashboard.collector.feed.connect(lambda feed: events.extend(feed.taken()[1]))
    dashboard.collector.next_frame(20)
    # A file that is replaced, as most editors do.
    (folder / "new").write_text((folder / "config.yaml").read_text() + "# a comment\n")
    (folder / "new").replace(folder / "config.yaml")
    wait_until(lambda: any(one.startswith(b"event: versions\n") for one in events), 20, "new versions")
    dashboard.collector.feed.connect(None)


def test_personal_data_in_the_files_is_masked_if_the_page_must_hide_it(folder: Path) -> None:
    edit(folder, "config.yaml", "transport: log", "transport: log, sender: shop@example.com")
    one = Dashboard(folder, DashboardSettings(mask_personal_data=True))
    try:
        assert "sender: s•••@•••" in text_of(create_app(one).test_client(), "/topology")
    finally:
        one.file_check.wait()
        one.plan.wait()
        one.close()


def test_the_filter_applies_to_the_changes_and_the_lines(client: FlaskClient, folder: Path) -> None:
    edit(folder, "config.yaml", "latency: 50ms", "latency: 2s")
    edit(folder, "topology.yaml", '"payment.*"', '"payment.#"')
    text = text_of(client, "/topology?find=latency")
    assert "service payment options.latency 50ms → 2s" in text
    assert "2 more without “latency”" in text
    assert "unrouted.all" not in text


def test_a_plugin_without_an_option_is_an_error_at_its_line(
    client: FlaskClient, dashboard: Dashboard, folder: Path
) -> None:
    edit(folder, "config.yaml", "transport: log", "transport: pigeon")
    client.get("/topology")
    dashboard.file_check.wait()
    assert "config.yaml:22 services.notification.options.transport:" in text_of(client, "/topology")


def test_the_route_tester_prints_what_route_prints(client: FlaskClient, folder: Path) -> None:
    done = CliRunner().invoke(main, ["--project", str(folder), "route", "payments.topic", "payment.success"])
    shown = text_of(client, "/topology?exchange=payments.topic&key=payment.success")
    assert " ".join(done.output.split()) in shown
    assert "unknown exchange 'payments'; did you mean 'payments.topic'?" in text_of(
        client, "/topology?exchange=payments"
    )
    assert "no queue gets the message" in text_of(client, "/topology?exchange=&key=nothing")
    assert "not a header, 'x'; allowed: NAME=VALUE" in text_of(client, "/topology?exchange=orders.topic&header=x")


def test_the_lit_edges_are_those_of_route_for_any_key(client: FlaskClient, folder: Path) -> None:
    draw = random.Random(23)
    words = ["order", "created", "cancelled", "payment", "success", "failed", "eu", ""]
    keys = {".".join(draw.choices(words, k=draw.randint(0, 4))) for _ in range(80)}
    assert len(keys) >= 50
    for key in sorted(keys)[:50]:
        exchange = draw.choice(["orders.topic", "payments.topic", "unrouted"])
        output = CliRunner().invoke(main, ["--project", str(folder), "route", exchange, key, "--json"]).output
        wanted = json.loads(output)
        bindings, edges = [], []
        for hop in wanted["hops"]:
            for one in hop["bindings"]:
                ends = [f"exchange {hop['exchange']}", f"{one['destination_type']} {one['destination']}"]
                bindings.append([*ends, one["routing_key"]])
                edges.append(">".join(ends))
            if hop["alternate"] is not None:
                edges.append(f"exchange {hop['exchange']}>exchange {hop['alternate']}")
        found = client.get("/route.json", query_string={"exchange": exchange, "key": key}).get_json()
        assert found == {
            "bindings": bindings, "edges": list(dict.fromkeys(edges)),
            "queues": [one["name"] for one in wanted["queues"]], "refused": None,
        }  # fmt: skip


def test_an_unknown_exchange_of_a_route_is_refused(client: FlaskClient) -> None:
    answer = client.get("/route.json?exchange=orders&key=x")
    assert answer.status_code == 422
    assert "unknown exchange 'orders'; did you mean 'orders.topic'?" in answer.get_data(as_text=True)
    refused = client.get(f"/route.json?exchange=orders.topic&key={'x' * 300}").get_json()
    assert refused["queues"] == []
    assert "300 bytes" in refused["refused"]


def test_a_comparison_runs_once_for_each_state_and_again_when_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs, changed = [], []
    may_end = threading.Event()

    def compared(folder: Path) -> PlanResult:
        runs.append(folder)
        may_end.wait(20)
        return PlanResult(0, 0.0, 0.0)

    monkeypatch.setattr(plan_comparison, "_compared", compared)
    one = PlanComparison(tmp_path, lambda: changed.append(True))
    one.ensure("first")
    wait_until(lambda: runs, 20, "the first comparison")
    one.ensure("first")
    one.ensure("second")  # during a comparison that may have read the old files
    may_end.set()
    one.wait()
    assert len(runs) == 2
    assert changed == [True]
    assert one.result is not None
    one.ensure("second")
    assert not one.is_running
    one.ask()
    one.wait()
    assert len(runs) == 3


def test_a_comparison_is_repeated_when_its_result_is_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs: list[Path] = []

    def compared(folder: Path) -> PlanResult:
        runs.append(folder)
        return PlanResult(0, 0.0, 0.0)

    monkeypatch.setattr(plan_comparison, "_compared", compared)
    one = PlanComparison(tmp_path, lambda: None)
    for _ in range(2):
        one.ensure("files")
        one.wait()
    assert len(runs) == 1
    monkeypatch.setattr(plan_comparison, "CURRENT_SECONDS", -1.0)
    one.ensure("files")
    one.wait()
    assert len(runs) == 2


def test_a_plan_that_arrives_while_the_page_is_rendered_hides_no_change(
    client: FlaskClient, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = {"mark": "+", "action": "create", "kind": "queue", "name": "reports", "why": "", "where": ""}
    found = PlanResult(
        2, 0.0, 0.0, {"changes": [change | {"new_name": "", "messages": 0, "waits_for": ""}]}, "1 to create"
    )
    # Each look at the result may see a newer one.
    results = iter([None])
    monkeypatch.setattr(PlanComparison, "ensure", lambda *_: None)
    monkeypatch.setattr(PlanComparison, "result", property(lambda _: next(results, found)), raising=False)
    for wanted in ("The files are being compared with the broker", "The broker differs from the files: 1 to create"):
        text = text_of(client, "/topology")
        assert wanted in text
        assert "without “" not in text
    assert "1 more without “mail”" in text_of(client, "/topology?find=mail")


@pytest.mark.parametrize(
    ("code", "summary", "sentence"),
    [
        (0, "nothing to do", "Nothing to do"),
        (2, "1 to create", "The broker differs from the files: 1 to create"),
        (3, "1 to replace", "An object must be replaced: 1 to replace"),
        (4, "no changes found, but …", "No changes found, but …"),
        (78, "", "The broker refuses a setting"),
    ],
)
def test_a_plan_is_described_in_words(code: int, summary: str, sentence: str) -> None:
    assert PlanResult(code, 0.0, 0.0, summary=summary).sentence == sentence


def test_the_meanings_of_exit_codes_are_those_of_the_help() -> None:
    assert plan.help is not None
    listed = dict(re.findall(r"^ +(\d+) +(\S.*)$", plan.help, re.MULTILINE))
    # An unreachable broker is an error of the command, not a plan.
    assert {str(code): text for code, text in EXIT_MEANINGS.items() if code != EXIT_BROKER} == listed
