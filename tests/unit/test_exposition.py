"""The metrics for Prometheus, from snapshots of a supervisor and counts of queues."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.config.project import load_project
from runner.dashboard import system_sample
from runner.dashboard.exposition import exposition
from runner.dashboard.system_sample import SystemSample, SystemSampler
from runner.ipc.step_memory import BOUNDS
from runner.preparation.applied_files import keep_applied
from tests.promql import families_of
from tests.running import ROOT

ORDERS = "payment.order.created"


def counted(name: str, handled: int, fast: int = 0) -> dict[str, Any]:
    """Return the counters of a slot, with ``fast`` attempts of 1.5 ms and one of 90 s."""
    buckets = [0, fast, *[0] * (len(BOUNDS) - 2), 1]
    return {
        "slot": name,
        "service": name.partition(".")[0],
        "edges": [
            ["published", "payments.topic", "payment.success", 5, "payment.success"],
            ["published", "payments.topic", "payment.success.eu", 2, "payment.success"],
            ["delivered", ORDERS, "", 99],
            ["handled", ORDERS, "", handled],
            ["retried", ORDERS, "1s", 2],
            ["retried", ORDERS, "5s", 1],
            ["dead_lettered", ORDERS, "", 4],
            ["rejected", ORDERS, "", 1],
        ],
        "handler_time": {ORDERS: {"buckets": buckets, "sum": 90.5, "count": fast + 1}},
        "queue_time": {},
    }


def slot(name: str, handled: int, fast: int = 0, **changes: Any) -> dict[str, Any]:
    values = {"role": "holder", "state": "RUNNING", "problem": "", "restarts": 3, "in_hand": 2, "memory": 4096}
    return {**counted(name, handled, fast), **values, "cpu_percent": 12.5, **changes}


def sample(slots: list[dict[str, Any]], removed: list[dict[str, Any]] | None = None) -> SystemSample:
    queues: dict[str, dict[str, Any]] = {
        ORDERS: {"ready": 7, "retry": 3, "dead": 2, "consumers": 1},
        "deleted": {"ready": None, "retry": None, "dead": None, "consumers": None, "missing": True},
        "unknown": {"ready": None, "retry": None, "dead": None, "consumers": None},
        "unrouted.all": {"ready": 1, "retry": 0, "dead": 0, "consumers": 0, "unrouted": 1},
    }
    snapshot = {"services": {"payment": 2}, "slots": slots, "removed_slots": removed or [], "timeline": []}
    return SystemSample(snapshot, True, queues, {"payment": [ORDERS, "quiet"], "removed": ["other"]})


def values_of(one: SystemSample) -> dict[str, float]:
    """Return the value of each series by its text."""
    body, _ = exposition(one, "")
    found = {}
    for line in body.decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.removeprefix("fastcommerce_")] = float(value)
    return found


def test_counters_add_the_slots_of_a_service_and_the_slots_that_were_removed() -> None:
    labels = f'{{queue="{ORDERS}",service="payment"}}'
    found = values_of(sample([slot("payment.1", 10), slot("payment.2", 20)], [counted("payment.3", 5)]))
    assert found[f"messages_handled_total{labels}"] == 35
    assert found[f"messages_retried_total{labels}"] == 9
    assert found[f"messages_dead_lettered_total{labels}"] == 15
    assert found[f"messages_failed_total{labels}"] == 24
    event = '{exchange="payments.topic",service="payment",type="payment.success"}'
    assert found[f"events_published_total{event}"] == 21


def test_counters_of_consumed_queues_begin_with_zero_and_those_of_other_services_do_not_exist() -> None:
    found = values_of(sample([slot("payment.1", 10)]))
    assert found['messages_failed_total{queue="quiet",service="payment"}'] == 0
    assert [name for name in found if "removed" in name] == []


def test_histograms_are_cumulative_and_end_with_all_attempts() -> None:
    found = values_of(sample([slot("payment.1", 10, fast=3), slot("payment.2", 20, fast=4)]))

    def bucket(bound: str) -> float:
        return found[f'handler_seconds_bucket{{le="{bound}",queue="{ORDERS}",service="payment"}}']

    assert [bucket(one) for one in ("0.001", "0.002", "60.0", "+Inf")] == [0, 7, 7, 9]
    assert found[f'handler_seconds_count{{queue="{ORDERS}",service="payment"}}'] == 9
    assert found[f'handler_seconds_sum{{queue="{ORDERS}",service="payment"}}'] == 181


def test_a_slot_that_two_processes_share_has_the_state_of_one_and_the_counters_of_both() -> None:
    new = slot("payment.1", 1, role="fresh", state="STARTING", restarts=0)
    found = values_of(sample([slot("payment.1", 10), new]))
    names = 'service="payment",slot="payment.1"'
    assert found[f"restarts_total{{{names}}}"] == 3
    assert found[f'slot_state{{{names},state="RUNNING"}}'] == 1
    assert found[f'slot_state{{{names},state="STARTING"}}'] == 0
    assert found[f"slot_cpu_ratio{{{names}}}"] == 0.125
    assert found[f'messages_handled_total{{queue="{ORDERS}",service="payment"}}'] == 11


@pytest.mark.parametrize(("changes", "is_up"), [({}, 1), ({"problem": "no broker"}, 0), ({"state": "BACKOFF"}, 0)])
def test_a_slot_is_up_if_it_runs_without_a_problem(changes: dict[str, Any], is_up: int) -> None:
    found = values_of(sample([slot("payment.1", 10, **changes)]))
    assert found['slot_up{service="payment",slot="payment.1"}'] == is_up


def test_a_value_that_is_unknown_has_no_series() -> None:
    found = values_of(sample([slot("payment.1", 10, memory=None)]))
    assert [name for name in found if "slot_memory" in name or '"unknown"' in name] == []
    assert {name: found[name] for name in found if name.startswith("queue_missing")} == {
        f'queue_missing{{queue="{ORDERS}"}}': 0,
        'queue_missing{queue="deleted"}': 1,
        'queue_missing{queue="unrouted.all"}': 0,
    }
    assert found['queue_unroutable_messages{queue="unrouted.all"}'] == 1


def test_without_a_supervisor_the_metrics_say_so() -> None:
    found = values_of(SystemSample(None, True, {ORDERS: {"ready": 7, "consumers": 0}}))
    assert (found["supervisor_up"], found["broker_up"]) == (0, 1)
    assert found[f'queue_ready_messages{{queue="{ORDERS}"}}'] == 7


def test_the_accept_header_chooses_openmetrics() -> None:
    one = sample([slot('odd".1', 10, service='a"\n\\b')])
    body, media_type = exposition(one, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    families = {family.name: family for family in families_of(body.decode())}
    plain, media_type = exposition(one, "text/plain")
    assert media_type.startswith("text/plain; version=0.0.4")
    assert b"# TYPE fastcommerce_restarts_total counter\n" in plain
    assert families["fastcommerce_restarts"].samples[0].labels["service"] == 'a"\n\\b'


def test_names_follow_the_rules_of_prometheus() -> None:
    body, _ = exposition(sample([slot("payment.1", 10)]), "application/openmetrics-text;version=1.0.0")
    for family in families_of(body.decode()):
        assert re.fullmatch(r"fastcommerce_[a-z_]+", family.name)
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        # Base units and the type's suffix: https://prometheus.io/docs/practices/naming/
        assert not re.search(r"milliseconds|percent|_mb|_kb|gauge|counter|_total$", family.name)


def test_the_prometheus_client_is_imported_only_for_a_scrape() -> None:
    code = "import sys, runner.dashboard.web_app; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


class System:
    """A supervisor and a broker that count how often they are asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.asked: list[list[str]] = []
        self.timeline: list[dict[str, Any]] = []
        self.now = 100.0
        for name in ("config.yaml", "topology.yaml"):
            (folder / name).write_text((ROOT / name).read_text())
        monkeypatch.setattr(system_sample, "watch", lambda _: (one for one in [self.snapshot()]))
        monkeypatch.setattr(system_sample, "look", self.look)
        self.sampler = SystemSampler(folder, lambda: self.now)

    def snapshot(self) -> dict[str, Any]:
        return {"services": {}, "slots": [], "removed_slots": [], "timeline": self.timeline}

    def look(self, urls: list[str], queues: list[str], unknown: dict[str, str], timeout: float) -> tuple[str, Any]:
        assert 0 < timeout <= system_sample.COUNT_TIMEOUT
        self.asked.append(queues)
        return urls[0], {}


def test_readers_within_a_second_share_a_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    system = System(monkeypatch, tmp_path)
    sampler = system.sampler
    first = sampler.sample()
    assert sampler.sample() is first
    system.now += 1.1
    assert sampler.sample() is not first
    assert len(system.asked) == 2


def test_an_edit_of_the_files_counts_from_the_reload_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    system = System(monkeypatch, tmp_path)
    sampler = system.sampler
    assert "new.queue" not in sampler.sample().queues
    text = (tmp_path / "topology.yaml").read_text()
    (tmp_path / "topology.yaml").write_text(text.replace("queues:\n", "queues:\n  new.queue: {}\n"))
    system.now += 2
    assert "new.queue" not in sampler.sample().queues
    system.timeline.append({"id": 1, "kind": "reloaded"})
    system.now += 2
    assert "new.queue" in sampler.sample().queues
    assert "new.queue" in system.asked[-1]


def test_the_files_that_the_supervisor_has_applied_count_if_there_is_a_copy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    system = System(monkeypatch, tmp_path)
    keep_applied(load_project(tmp_path))
    text = (tmp_path / "topology.yaml").read_text()
    (tmp_path / "topology.yaml").write_text(text.replace("queues:\n", "queues:\n  new.queue: {}\n"))
    assert "new.queue" not in system.sampler.sample().queues, "edited before the first scrape"
    keep_applied(load_project(tmp_path))
    system.now += 2
    assert "new.queue" in system.sampler.sample().queues
