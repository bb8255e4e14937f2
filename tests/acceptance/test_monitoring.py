"""A running system as monitoring sees it: the metrics, the Grafana board, the alert rules, and the command ``top``."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.cli.main import LAZY
from tests.promql import TARGET, Series, labels_of, series_of
from tests.rabbit import Rabbit, wait_until
from tests.running import ALICE, ROOT, Project, Runner

pytestmark = pytest.mark.xdist_group("monitoring")  # all tests of this module share a system

TOKEN = "a token of this test"
BOARD = json.loads((ROOT / "deploy/grafana/fastcommerce.json").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
RULES = [rule for group in ALERTS for rule in group["rules"]]
SCRAPE = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
#: A handler that fails in the first attempt on an order of 13, and always on an order of 66.
MOODY = """from runner import Reject, Retry, hookimpl

@hookimpl
def handle(message):
    amount = float(message.json()["amount"])
    if amount == 13 and message.attempt == 1:
        raise Retry("once more")
    if amount == 66:
        raise Reject("never")
"""
QUEUE = "moody.orders"


class System:
    """A running system with a dashboard."""

    def __init__(self, project: Project, url: str) -> None:
        self.project, self.url = project, url
        self.runner: Runner = project.run(url=url, env={"FASTCOMMERCE_SETTLE": "0"})
        self.runner.wait_for("everything is RUNNING")

    def post(self, amount: float = 149.99) -> None:
        """Post an order."""
        assert self.project.post({**ALICE, "amount": amount})[0] == 202

    def scrape(self, **headers: str) -> str:
        """Return the metrics."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.project.dashboard_port}/metrics",
            headers={"Authorization": f"Bearer {TOKEN}", **headers},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    def values(self) -> dict[str, float]:
        """Return the value of each series by its text, without the prefix of all names."""
        rows = [line.rpartition(" ") for line in self.scrape().splitlines() if not line.startswith("#")]
        return {name.removeprefix("fastcommerce_"): float(value) for name, _, value in rows}

    def value(self, name: str, **labels: str) -> float:
        """Return the value of one series, or 0 if there is none yet."""
        text = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        return self.values().get(f"{name}{{{text}}}" if text else name, 0.0)


@pytest.fixture(scope="module")
def system(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Yield the running system, which has handled, retried and dead-lettered a message."""
    vhost, folder = rabbit.make_vhost(f"test-{uuid.uuid4().hex[:8]}"), tmp_path_factory.mktemp("monitoring")
    project = Project(folder / "project", dashboard=True)
    project.options("payment", failure_rate=0.0, latency="2ms")
    project.options("dashboard", token=TOKEN)
    config, topology = project.config(), project.topology()
    config["services"]["moody"] = {"consumes": [QUEUE], "instances": 2}
    topology["queues"][QUEUE] = {"bind": {"orders.topic": ["order.created"]}, "retry": ["200ms"]}
    project.set_config(config)
    project.set_topology(topology)
    project.plugin("moody", MOODY)
    try:
        one = System(project, vhost.url)
        for amount in (13, 66, 149.99):
            one.post(amount)
        eventually(lambda: one.value("messages_handled_total", service="moody", queue=QUEUE) == 2, "two are handled")
        yield one
    finally:
        project.close()
        vhost.delete()


@pytest.fixture(scope="module")
def series(system: System) -> dict[str, frozenset[str]]:
    """Return the series of the system, and their labels."""
    return series_of(system.scrape(Accept="application/openmetrics-text;version=1.0.0"))


def eventually(condition: Callable[[], Any], what: str) -> Any:
    return wait_until(condition, 20, what)


def test_the_metrics_count_what_happened_while_no_page_is_open(system: System) -> None:
    labels = {"service": "moody", "queue": QUEUE}
    found = {name: system.value(f"messages_{name}_total", **labels) for name in ("failed", "retried", "dead_lettered")}
    assert found == {"failed": 2, "retried": 1, "dead_lettered": 1}
    assert system.value("handler_seconds_count", **labels) == 4
    assert system.value("queue_wait_seconds_count", **labels) == 3
    event = {"service": "order_api", "exchange": "orders.topic", "type": "order.created"}
    assert system.value("events_published_total", **event) == 3
    eventually(lambda: system.value("queue_dead_letters", queue=QUEUE) == 1, "the dead letter")
    assert system.value("queue_consumers", queue=QUEUE) == 2
    assert (system.value("supervisor_up"), system.value("broker_up")) == (1, 1)
    for slot in ("moody.1", "moody.2"):
        assert system.value("slot_state", service="moody", slot=slot, state="RUNNING") == 1
        assert system.value("slot_memory_bytes", service="moody", slot=slot) > 10_000_000


def test_without_the_token_there_are_no_metrics(system: System) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        system.scrape(Authorization="Bearer another")
    refused.value.close()


def test_no_counter_falls_when_a_worker_is_killed_and_when_a_service_gets_fewer_instances(system: System) -> None:
    handled = {"service": "moody", "queue": QUEUE}
    before = system.values()

    def counters_grew() -> dict[str, float]:
        now = system.values()
        fallen = {
            name: (before[name], now.get(name))
            for name in before
            if re.search(r"_(total|count|sum|bucket)\b", name)
            and not ('slot="moody.2"' in name and name not in now)
            and now.get(name, -1) < before[name]
        }
        assert fallen == {}
        before.update(now)
        return now

    os.kill(system.project.slots()["moody.1"]["pid"], signal.SIGKILL)
    name = 'restarts_total{service="moody",slot="moody.1"}'
    eventually(lambda: counters_grew()[name] == 1, "the restart is counted")
    count = system.value("messages_handled_total", **handled)
    assert system.project.call("scale", "moody", "1", url=system.url)[0] == 0
    eventually(lambda: not any('slot="moody.2"' in one for one in counters_grew()), "moody.2 is gone")
    assert system.value("messages_handled_total", **handled) == count
    system.post()
    eventually(lambda: counters_grew() and system.value("messages_handled_total", **handled) == count + 1, "one more")
    assert system.project.call("scale", "moody", "2", url=system.url)[0] == 0
    eventually(lambda: any('slot="moody.2"' in one for one in counters_grew()), "moody.2 is back")
    assert system.value("messages_handled_total", **handled) == count + 1


def test_top_shows_the_same_system_as_text(system: System) -> None:
    code, text = system.project.call("top", "--once", url=system.url)
    assert code == 0
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:4] == ["1", "dead", "·", "FastCommerce,"]
    assert lines[1] == ["!", QUEUE, "has", "1", "dead", "letter."]
    (row,) = (line for line in lines if line[:1] == [QUEUE])
    assert row[1:5] == ["0", "0", "0", "1"]
    assert {line[0] for line in lines if line[1:2] == ["RUNNING"]} >= {"order_api", "payment", "moody.1", "moody.2"}


def test_top_prints_frames_as_json_until_ctrl_c_and_exits_with_0(system: System) -> None:
    runner = system.project.run("top", "--json", url=system.url)
    wait_until(lambda: len(runner.lines) >= 2, 30, "two frames")
    assert runner.stop(signal.SIGINT) == 0
    first, second = map(json.loads, runner.lines[:2])
    assert second["n"] > first["n"]
    assert {one["subject"] for one in first["timeline"]} >= {"moody.1", "payment.1"}
    assert second["timeline"] == []
    assert set(second["queues"]) >= {QUEUE, "payment.order.created"}
    assert second["slots"]["moody.1"]["state"] == "RUNNING"


def test_top_prints_one_error_line_if_no_supervisor_is_running(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    code, text = project.call("top", "--once")
    assert code == 1
    assert text.startswith(f"no supervisor is running in {project.folder}; start it with: ")


def expanded(expression: str) -> str:
    """Return an expression of the board with a value for each variable."""
    return re.sub(r"\$\w+", "x", expression.replace("$__rate_interval", "5m"))


def test_each_expression_of_the_board_uses_our_metrics_and_labels(series: Series) -> None:
    panels = [one for one in BOARD["panels"] if one["type"] != "row"]
    assert len(panels) > 15
    for panel in panels:
        for target in panel["targets"]:
            labels = labels_of(expanded(target["expr"]), series)
            legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert legend <= labels, panel["title"]


def test_each_variable_of_the_board_lists_a_label_of_our_metrics_and_is_used(series: Series) -> None:
    names = set()
    for one in BOARD["templating"]["list"]:
        names.add(one["name"])
        if one["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", one["query"]["query"])
            assert match is not None, one["name"]
            assert match[2] in labels_of(expanded(match[1]), series)
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD))) - {"__rate_interval"}
    assert used == names


def test_the_panels_of_the_board_are_described_and_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        assert panel["type"] == "row" or (panel["description"] and panel["datasource"]["uid"] == "${datasource}")
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_each_metric_is_shown_by_the_board_or_used_by_an_alert(series: Series) -> None:
    text = json.dumps(BOARD) + json.dumps(RULES)
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in series} - {"up"}
    assert sorted(name for name in families if name not in text) == []


def test_the_documentation_lists_each_metric_with_its_labels(series: Series) -> None:
    rows = re.findall(
        r"^\| (`fastcommerce_.+?) \|(.*?)\|", (ROOT / "docs/dashboard.md").read_text("utf-8"), re.MULTILINE
    )
    listed = {
        name: set(re.findall(r"`(\w+)`", labels)) for names, labels in rows for name in re.findall(r"`(\w+)`", names)
    }
    found = {
        re.sub(r"_(bucket|count|sum)$", "", name): set(labels - TARGET - {"le"}) for name, labels in series.items()
    }
    del found["up"]
    assert listed == found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_uses_our_metrics_and_labels_and_known_commands(rule: dict[str, Any], series: Series) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description"}
    text = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels_of(rule["expr"], series)
    for command in re.findall(r"`fastcommerce (\w+)", text):
        assert command in LAZY
    for page in re.findall(r"docs/\S+\.md", text):
        assert (ROOT / page).exists()


def test_the_alerts_cover_each_kind_of_trouble_and_name_the_job_of_the_scrape() -> None:
    assert {rule["alert"].removeprefix("FastCommerce") for rule in RULES} == {
        "NotScraped", "SupervisorDown", "BrokerDown", "SlotFailed", "RestartsOften", "DeadLetters", "QueueGrows",
        "NoConsumer", "QueueMissing", "Unroutable",
    }  # fmt: skip
    (job,) = SCRAPE["scrape_configs"]
    assert SCRAPE["rule_files"] == ["alerts.yaml"]
    assert set(re.findall(r'job="(\w+)"', json.dumps(RULES).replace('\\"', '"'))) == {job["job_name"]}


def test_an_expression_with_an_unknown_metric_or_label_is_noticed(series: Series) -> None:
    for text in (
        "fastcommerce_message_handled_total", "sum by (quue) (fastcommerce_queue_consumers)",
        'fastcommerce_queue_consumers{slot="x"}', "fastcommerce_queue_consumers and on (slot) fastcommerce_slot_up",
        "histogram_quantile(0.5, sum by (queue) (rate(fastcommerce_handler_seconds_bucket[5m])))",
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="unknown"):
            labels_of(text, series)
    assert labels_of("sum by (job, queue) (fastcommerce_queue_consumers)", series) == {"job", "queue"}
    assert labels_of("fastcommerce_queue_consumers", series) == TARGET | {"queue"}
