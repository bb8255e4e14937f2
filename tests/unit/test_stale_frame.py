"""A page that opens after a while without pages shows the system as it is now, and hides personal data if asked."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.dashboard.collector import Collector
from runner.dashboard.order_post import OrderPost, PostJob
from runner.dashboard.page_job import PageJobs
from runner.dashboard.web_app import create_app
from runner.dashboard.web_server import Dashboard, DashboardSettings
from runner.invocation import SOURCE, invocation, invoked_for


def test_a_page_waits_for_a_frame_of_this_moment(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    try:
        first = collector.next_frame(20)
        assert "no supervisor is running" in first["live"]
        # The frame of the last page, a minute ago.
        with collector._lock:
            collector._built_at -= 60
            known = collector._frame["n"]
        assert collector.next_frame(20)["n"] > known
    finally:
        collector.close()


def test_a_page_contains_the_versions_of_its_regions(tmp_path: Path) -> None:
    dashboard = Dashboard(tmp_path, DashboardSettings())
    try:
        text = create_app(dashboard).test_client().get("/services").text
        (versions,) = re.findall(r'data-versions="([^"]*)"', text)
        assert "&#34;services&#34;" in versions
        assert "No supervisor answers" in text
    finally:
        dashboard.close()


def test_logs_and_outputs_contain_no_addresses_if_personal_data_is_masked(tmp_path: Path) -> None:
    row: Any = [1.0, "order_api.1", "", "order o1 accepted: 5 USD for alice@example.com"]
    for is_masked in (False, True):
        dashboard = Dashboard(tmp_path, DashboardSettings(mask_personal_data=is_masked))
        try:
            dashboard.logs._kept["payment"] = (float("inf"), {"lines": [row], "problem": ""})
            log = create_app(dashboard).test_client().get("/services/log?slot=payment").text
            job = PostJob("1", OrderPost("http://x", "{}"), lambda _: (202, "alice@example.com"))
            job.wait(20)
            for text in (log, json.dumps(dashboard.shown(job)["lines"])):
                assert ("alice@example.com" in text) != is_masked
        finally:
            dashboard.close()


def test_an_unchanged_log_is_not_sent_again(tmp_path: Path) -> None:
    dashboard = Dashboard(tmp_path, DashboardSettings())
    try:
        dashboard.logs._kept["payment"] = (float("inf"), {"lines": [[1.0, "payment.1", "", "ready"]], "problem": ""})
        client = create_app(dashboard).test_client()
        first = client.get("/services/log?slot=payment")
        again = client.get("/services/log?slot=payment", headers={"If-None-Match": first.headers["ETag"]})
        assert (first.status_code, again.status_code, again.data) == (200, 304, b"")
    finally:
        dashboard.close()


def test_a_form_shows_the_command_line_or_what_is_wrong(tmp_path: Path) -> None:
    dashboard = Dashboard(tmp_path, DashboardSettings())
    try:
        client = create_app(dashboard).test_client()
        query = {"target": "pay", "type": "", "body": "{}"}
        assert client.get("/actions/publish", query_string=query).text.rstrip().endswith(" publish pay --body '{}'\"}")
        query["target"] = "--yes"
        problem = "target: not valid, '--yes'; allowed: a name"
        assert client.get("/actions/publish", query_string=query).json == {"command": "", "problem": problem}
        found = client.get("/actions/post_order", query_string={"email": "a@b.c"}).json
        assert found == {"command": "", "problem": "no service accepts orders; see the page Services"}
    finally:
        dashboard.close()


def test_a_menu_opens_before_the_first_counts_of_its_queue(tmp_path: Path) -> None:
    # A name may contain any sign.
    name = '50% a/b>c "d" <i>'
    (tmp_path / "topology.yaml").write_text(json.dumps({"queues": {name: {}}}))
    (tmp_path / "config.yaml").write_text("services: {}")
    dashboard = Dashboard(tmp_path, DashboardSettings())
    try:
        answer = create_app(dashboard).test_client().get("/menu", query_string={"node": f"queue {name}"})
        assert (answer.status_code, "<i>" in answer.text) == (200, False)
        assert "\N{EN DASH} ready, \N{EN DASH} unacked" in answer.text
    finally:
        dashboard.close()


@pytest.mark.parametrize("is_on", [True, False])
def test_a_menu_offers_a_poison_message_for_a_consumed_queue_while_fault_injection_is_on(
    tmp_path: Path, is_on: bool
) -> None:
    (tmp_path / "topology.yaml").write_text(json.dumps({"queues": {"pay": {}, "mail": {}}}))
    services = {"payment": {"consumes": ["pay"]}}
    (tmp_path / "config.yaml").write_text(json.dumps({"fault_injection": is_on, "services": services}))
    dashboard = Dashboard(tmp_path, DashboardSettings())
    try:
        client = create_app(dashboard).test_client()
        menus = [client.get("/menu", query_string={"node": f"queue {name}"}).text for name in ("pay", "mail")]
        assert ["fault poison pay" in menus[0], "fault poison mail" in menus[1]] == [is_on, False]
    finally:
        dashboard.close()


def test_the_output_of_a_job_names_the_program_as_the_page_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setattr(sys, "argv", ["/usr/bin/fastcommerce"])
    (tmp_path / "topology.yaml").write_text("{}")
    (tmp_path / "config.yaml").write_text("services: {}")
    with invoked_for(tmp_path):
        jobs = PageJobs(tmp_path)
        job = jobs.start(["status"])
        job.wait(60)
        shown = job.as_json()
        assert shown["command"] == invocation("status")
        assert f"start it with: {invocation()}" in "\n".join(shown["lines"])
        jobs.close()


def test_a_long_line_of_an_output_is_cut(tmp_path: Path) -> None:
    jobs = PageJobs(tmp_path)
    job = jobs.start(["x" * 6000])
    job.wait(60)
    (line,) = [one for one in job.as_json()["lines"] if "xxx" in one]
    assert (line.endswith(" more characters"), len(line) < 4100) == (True, True)
    jobs.close()
