"""``events`` and ``order history`` with databases that the tests fill."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Text, text

from runner.history.tables import attempts, events
from runner.store.database import open_database
from tests.audited import fill, turn_on
from tests.machine import in_time
from tests.running import Project

#: The most seconds of CPU time for the command about one order, including the start of its process.
CPU_LIMIT = 0.3
ORDERS = ["aaaa1111", "aaaa2222", "bbbb1111"]


def computed() -> float:
    """Return the CPU time of all child processes that have exited, in seconds."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def run(project: Project, *command: str, code: int = 0) -> list[str]:
    """Run a command in this process, and return the lines that it prints."""
    found, output = project.call(*command)
    assert found == code, output
    return output.splitlines()


@pytest.fixture
def filled(project: Project, database: str) -> Callable[..., list[str]]:
    turn_on(project, database)
    engine = open_database(database, project.folder)
    fill(engine, ORDERS)
    engine.dispose()
    return lambda *command, **more: run(project, *command, **more)


def listed(lines: list[str]) -> Any:
    return json.loads("\n".join(lines))


def fill_many(project: Project, count: int) -> list[str]:
    """Fill a new database with orders as ``fill`` does, but faster, in SQL. Return the ids of the orders."""
    engine = open_database("sqlite:///var/fastcommerce.db", project.folder)
    fill(engine, ["ORDER"])
    order, at = "printf('%08x-%d', n * 2654435761 % 4294967296, n)", "n * 50"
    numbers = f"WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {count})"
    with engine.begin() as connection:
        for table in (events, attempts):
            values = [
                f"replace({one.name}, 'ORDER', {order})"
                if isinstance(one.type, Text)
                else f"{one.name} + {at}"
                if one.name.endswith("_at")
                else one.name
                for one in table.columns
            ]
            names = ", ".join(one.name for one in table.columns)
            made = f"SELECT {', '.join(values)} FROM numbers, {table.name} WHERE {table.name}.id LIKE 'ORDER-%'"
            connection.execute(text(f"INSERT INTO {table.name} ({names}) {numbers} {made}"))
            connection.execute(text(f"DELETE FROM {table.name} WHERE id LIKE 'ORDER-%'"))
        (found,) = connection.execute(text("SELECT count(*) FROM attempts JOIN events ON message_id = events.id")).one()
    engine.dispose()
    assert found == 3 * count
    return [f"{number * 2654435761 % 2**32:08x}-{number}" for number in range(count)]


def test_the_latest_events_are_printed_last_after_a_note_about_omitted_events(filled) -> None:
    found = filled("events", "--limit", "2")
    assert found[0] == "older events are omitted; use --limit 4 to show more"
    assert [line.split()[2:5] for line in found[2:]] == [
        ["payment.success", "aaaa2222", "payment"],
        ["payment.success", "bbbb1111", "payment"],
    ]
    assert "left out" not in "".join(filled("events", "--limit", "6"))


def test_events_as_json_are_complete_and_more_reports_omitted_events(filled) -> None:
    found = listed(filled("events", "--order", "bb", "--json"))
    assert found["more"] is False
    first, second = found["events"]
    assert (first["type"], first["order_id"], first["id"]) == ("order.created", "bbbb1111", "bbbb1111-c")
    assert first["published_at"] == "2023-11-14T22:13:20.100Z"
    assert first["headers"] == {"x-sent-at": 1_700_000_000_100}
    assert json.loads(first["body"])["amount"] == "149.99"
    assert second["causation_id"] == first["id"]
    assert listed(filled("events", "--json", "--limit", "1"))["more"] is True


def test_events_are_selected_by_order_type_and_age(filled) -> None:
    found = listed(filled("events", "--json", "--type", "order.created", "--order", "aaaa1"))["events"]
    assert [one["id"] for one in found] == ["aaaa1111-c"]
    assert len(listed(filled("events", "--json", "--type", "order.created"))["events"]) == 3
    assert filled("events", "--since", "1h") == ["no such events"]
    assert len(listed(filled("events", "--since", "9999d", "--json"))["events"]) == 6


def test_times_and_texts_that_no_database_accepts_cause_no_crash(filled) -> None:
    assert len(listed(filled("events", "--json", "--since", "99999999999999999d"))["events"]) == 6
    assert "not a type" in filled("events", "--type", os.fsdecode(b"\xff"), code=2)[-1]
    assert "unknown order" in filled("events", "--order", os.fsdecode(b"\xff"), code=1)[-1]


def test_the_commands_import_no_slow_package(project: Project) -> None:
    turn_on(project)
    engine = open_database("sqlite:///var/fastcommerce.db", project.folder)
    fill(engine, ORDERS)
    engine.dispose()
    source = """
import sys
from runner.cli.main import main
main(sys.argv[1:], standalone_mode=False)
print(sorted({"sqlalchemy", "pydantic", "alembic", "pika", "flask", "psycopg"} & sys.modules.keys()))
"""
    for arguments in (["events", "--order", "aaaa1"], ["order", "history", "bbbb"]):
        command = [sys.executable, "-c", source, *arguments]
        found = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=True)
        assert found.stdout.splitlines()[-1] == "[]"


def test_a_file_that_is_no_database_is_refused_with_a_clear_error(project: Project) -> None:
    (project.folder / "var").mkdir()
    (project.folder / "var" / "fastcommerce.db").write_text("no database " * 500)
    (found,) = run(project, "events", code=78)
    assert found.startswith("store.url: sqlite:///")
    assert "cannot be used, file is not a database" in found


@pytest.mark.parametrize("since", ["1", "1w", "-1h", ""])
def test_an_invalid_time_is_a_usage_error(project: Project, since: str) -> None:
    assert "allowed: a number with a unit" in run(project, "events", "--since", since, code=2)[-1]


def test_an_order_history_is_found_by_a_unique_prefix_of_the_id(filled) -> None:
    found = filled("order", "history", "aaaa1")
    assert found[0] == "order aaaa1111: paid"
    assert [line.split(" s  ")[1] for line in found[2:-1]] == [
        "order.created published by order_api",
        "payment failed to handle order.created on payment.1, attempt 1, waited 5 ms, took 50 ms: gateway timed out;"
        " retry in 1 s",
        "payment gave up order.created on payment.1, attempt 2, waited 1.00 s, took 50 ms: gateway timed out;"
        " dead-lettered from payment.order.created",
        "order.created replayed to payment.order.created",
        "payment handled order.created on payment.1, attempt 1, waited 10 ms, took 50 ms",
        "payment.success published by payment",
    ]
    assert found[-1] == (
        "decided after 5.05 s, 1.02 s waiting in queues (including 1.00 s of retry delays), 0.15 s in handlers,"
        " 3.88 s dead-lettered"
    )
    assert listed(filled("order", "history", "aaaa1111", "--json"))["status"] == "paid"


def test_an_ambiguous_id_and_an_unknown_id_have_different_errors(filled) -> None:
    assert filled("order", "history", "aaaa", code=1) == [
        "order id 'aaaa' is ambiguous; several orders match: aaaa1111, aaaa2222"
    ]
    for wrong in ("cccc", "", "%", "aaaa____", "\x1b[31m"):
        assert "unknown order" in filled("order", "history", wrong, code=1)[-1]
    assert "\x1b" not in "".join(filled("events", "--order", "\x1b[31m", code=1))


@pytest.mark.parametrize("command", [["events"], ["events", "--order", "x"], ["order", "history", "x"]])
def test_without_audit_the_lines_to_add_are_printed_and_with_audit_the_command_to_start_the_runner(
    project: Project, command: list[str]
) -> None:
    off = "\n".join(run(project, *command, code=1))
    assert "audit is off" in off
    assert 'audit.events: {bind: {orders.topic: ["#"], payments.topic: ["#"]}' in off
    assert "audit: {consumes: [audit.events]}" in off
    turn_on(project)
    assert "no events are recorded yet" in run(project, *command, code=1)[-1]
    assert not (project.folder / "var").exists()


def test_a_configuration_error_is_reported_as_check_reports_it(project: Project) -> None:
    config = project.config()
    config["store"] = {"url": "mysql://x"}
    project.set_config(config)
    assert "not a database address" in run(project, "events", code=78)[-1]


def test_one_order_among_100_000_events_is_found_quickly(project: Project) -> None:
    turn_on(project)
    middle = fill_many(project, 50_000)[25_000]
    of_one = ["events", "--order", middle]
    for command in (of_one, ["order", "history", middle], ["order", "history", middle[:10]], ["events"]):
        times: list[float] = []
        # The test uses CPU time and the best of several runs, because other tests share the machine's cores.
        while len(times) < 8 and min(times, default=CPU_LIMIT) >= CPU_LIMIT:
            began = computed()
            runner = project.run(*command)
            assert runner.process.wait(30) == 0
            runner.stop()
            assert command[0] == "events" or middle in runner.output
            times.append(computed() - began)
        print(f"{' '.join(command)}: {min(times):.3f} s at best, {max(times):.3f} s at most")
        assert min(times) < in_time(CPU_LIMIT)
