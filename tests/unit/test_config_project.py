"""Both files of a project, read and checked together."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.config.config_file import StoreSettings, event_type, is_service_name
from runner.config.database_address import read_quickly
from runner.config.project import Project, choose_services, load_project
from runner.config.validation import validate
from runner.contract import Terms
from runner.errors import ConfigError

ROOT = Path(__file__).parent.parent.parent


def project(folder: Path, topology: str = "", config: str = "", **environment: str) -> Project:
    (folder / "topology.yaml").write_text(topology)
    (folder / "config.yaml").write_text(config)
    return load_project(folder, environment)


def faults(folder: Path, topology: str = "", config: str = "", **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        project(folder, topology, config, **environment)
    return caught.value.faults


def test_the_shipped_files_are_valid_and_short() -> None:
    shipped = load_project(ROOT, {})
    assert set(shipped.config.services) == {"order_api", "payment", "notification", "audit", "dashboard"}
    assert shipped.config.broker.url == ("amqp://guest:guest@127.0.0.1:5672/",)
    assert {"payment.order.created", "notification.order.events", "notification.payment.events"} <= set(
        shipped.topology.queues
    )
    for name in ("topology.yaml", "config.yaml"):
        assert len((ROOT / name).read_text().splitlines()) < 40


def test_a_service_has_the_store_of_the_project_or_its_own(tmp_path: Path) -> None:
    config = "{store: {url: sqlite:///a.db}, services: {x: {}, y: {store: {url: sqlite:///b.db}}, z: {store: {}}}}"
    found = project(tmp_path, config=config)
    stores = ("sqlite:///a.db", "sqlite:///b.db", StoreSettings().url)
    assert tuple(map(found.store_of, ("x", "y", "z"))) == stores
    assert found.history_store == "sqlite:///a.db"
    recording = replace(found, terms={"y": Terms({}, {}, (), frozenset({"events"}), {})})
    assert recording.history_store == found.history_store, "a service without a queue gets nothing to record"
    assert read_quickly(tmp_path) is None, "it does not show which database has the event history"


def test_the_statuses_of_all_services_are_collected(tmp_path: Path) -> None:
    config = "services: {a: {consumes: [q]}, b: {consumes: [q, r]}, c: {}}"
    found = project(tmp_path, "queues: {q: {}, r: {}}", config)
    assert (found.statuses, found.attempts_queue, found.recorders("events")) == ({}, None, [])
    terms = {
        "a": Terms({}, {}, (), frozenset(), {"paid": "done"}),
        "b": Terms({}, {}, (), frozenset({"attempts"}), {}),
        "c": Terms({}, {}, (), frozenset(), {"begun": "accepted"}),
    }
    found = replace(found, terms=terms)
    assert found.statuses == {"paid": "done", "begun": "accepted"}
    assert (found.recorders("attempts"), found.attempts_queue) == (["b"], "q")


def test_empty_files_are_a_project_without_services(tmp_path: Path) -> None:
    empty = project(tmp_path)
    assert empty.config.services == {}
    assert empty.topology.queues == {}
    assert empty.var == tmp_path / "var"


def test_a_service_may_consume_a_dead_letter_queue_that_is_only_implied(tmp_path: Path) -> None:
    found = project(tmp_path, "queues: {a: {}, b: {dead_letter: parked}}", "services: {x: {consumes: [a.dlq, parked]}}")
    assert found.config.services["x"].consumes == ["a.dlq", "parked"]


def test_the_exchanges_of_every_vhost_need_no_definition(tmp_path: Path) -> None:
    project(
        tmp_path,
        'queues: {a: {bind: {amq.topic: ["#"]}}}\nexchanges: {e: {alternate_exchange: amq.fanout}}',
        "services: {x: {publishes: {amq.direct: [thing.done]}}}",
    )


def test_one_broker_address_or_several_may_be_given(tmp_path: Path) -> None:
    one = project(tmp_path, config='broker: {url: "amqp://a/"}')
    two = project(tmp_path, config='broker: {url: ["amqp://a/", "amqps://b/"]}')
    assert one.config.broker.url == ("amqp://a/",)
    assert two.config.broker.url == ("amqp://a/", "amqps://b/")


def test_numbers_may_come_from_variables(tmp_path: Path) -> None:
    found = project(tmp_path, config='services: {x: {instances: "${N:-2}", prefetch: "${P}"}}', P="7")
    assert (found.config.services["x"].instances, found.config.services["x"].prefetch) == (2, 7)


def test_errors_of_topology_yaml_are_first_and_each_file_s_are_ordered_by_line(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        "exchanges: {a: {typ: topic}}\n" + "#\n" * 8 + "queue: {}\n",
        "service: {}\nbroker: {start: maybe}\n",
    )
    assert [fault.split(": ")[0] for fault in found] == [
        "topology.yaml:1", "topology.yaml:10", "config.yaml:1", "config.yaml:2",
    ]  # fmt: skip


def test_an_unreadable_topology_does_not_make_its_queues_unknown(tmp_path: Path) -> None:
    found = faults(tmp_path, "queues: {]}", "services: {x: {consumes: [a]}}")
    assert len(found) == 1
    assert found[0].startswith("topology.yaml:1: not YAML")


def test_a_folder_without_files_is_reported_with_both_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, {})
    assert [fault.split(": ")[1].split(" in ")[0] for fault in caught.value.faults] == ["no such file"] * 2
    assert caught.value.exit_code == 78


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "topology.yaml").mkdir()
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"^topology.yaml:1: cannot be read, Is a directory"):
        load_project(tmp_path, {})


def test_the_line_of_a_topology_object_is_available_later(tmp_path: Path) -> None:
    found = project(tmp_path, "queues:\n  a: {}\n  b: {}\n")
    assert found.topology_line(("queues", "b")) == "topology.yaml:3"


def test_two_services_may_publish_the_same_event(tmp_path: Path) -> None:
    publishes = "publishes: {amq.topic: [order.created]}"
    project(tmp_path, config=f"services: {{a: {{{publishes}}}, b: {{{publishes}}}}}")


def test_all_services_are_chosen_unless_some_are_named(tmp_path: Path) -> None:
    config = project(tmp_path, config="services: {payment: {}, audit: {}}").config
    assert choose_services(config, ()) == ["payment", "audit"]
    assert choose_services(config, ("payment",)) == ["payment"]
    with pytest.raises(ConfigError, match=r"^run: unknown service 'paymnet'; did you mean 'payment'\?$"):
        choose_services(config, ("paymnet",))


@pytest.mark.parametrize(
    ("template", "event"),
    [
        ("order.created", "order.created"),
        ("order.created.{currency}", "order.created"),
        ("order.{currency}.x", "order"),
        ("", ""),
    ],
)
def test_the_type_of_an_event_is_the_part_before_the_first_field(template: str, event: str) -> None:
    assert event_type(template) == event


@pytest.mark.parametrize(
    ("name", "is_fine"),
    [
        ("payment", True),
        ("order_api", True),
        ("a-2", True),
        ("", False),
        ("Payment", False),
        ("2nd", False),
        ("a.b", False),
        ("a b", False),
        ("a" * 40, True),
        ("a" * 41, False),
        ("a\n", False),
        ("../a", False),
    ],
)
def test_a_service_s_name_fits_into_a_prefix_and_a_command_line(name: str, is_fine: bool) -> None:
    assert is_service_name(name) is is_fine


_TEXT = """
exchanges queues bindings defaults broker services url start type durable bind retry dead_letter arguments source
destination destination_type consumes publishes instances options plugin a b.c topic 5s queue amqp://a/ ${UNSET} ${SET}
"""
_WORDS = st.sampled_from(_TEXT.split())
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)
_SECTION = st.dictionaries(_WORDS, st.dictionaries(_WORDS, _ANYTHING, max_size=4), max_size=3)
_FILE = st.fixed_dictionaries(
    {},
    optional={
        "exchanges": _SECTION,
        "queues": _SECTION,
        "bindings": st.lists(st.dictionaries(_WORDS, _ANYTHING, max_size=4), max_size=2),
        "broker": st.dictionaries(_WORDS, _ANYTHING, max_size=3),
        "services": _SECTION,
        "defaults": _ANYTHING,
    },
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(_FILE, _FILE)
def test_any_files_are_a_project_or_a_list_of_errors(
    tmp_path: Path, topology: dict[str, object], config: dict[str, object]
) -> None:
    reported: list[str] = []
    try:
        project(tmp_path, json.dumps(topology), json.dumps(config), SET="hunter2")
    except ConfigError as error:
        reported = error.faults
    assert len(set(reported)) == len(reported)
    for fault in reported:
        assert re.match(r"(topology|config)\.yaml:1: ", fault), fault
        assert "hunter2" not in fault


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("sqlite:///var/a.db", True),
        ("postgresql://shop:p%40ss@localhost:5433/shop", True),
        ("postgres://shop@localhost/shop", True),
        ("postgresql://shop@db/shop?sslmode=verify-full&sslrootcert=ca.pem", True),
        ("postgresql://shop@/shop?host=/run/postgresql", True),
        ("sqlite:///:memory:", False),
        ("sqlite://", False),
        ("mysql://localhost/shop", False),
        ("postgresql://localhost", False),
        ("postgresql://shop:ca@nary@localhost/shop", False),
        ("postgresql://localhost/shop?user=shop&password=canary", False),
        ("postgresql://a:5432,b:5432/shop", False),
        ("postgresql://localhost:99999/shop", False),
    ],
)
def test_the_shown_address_of_a_database_contains_no_secret(url: str, *, is_allowed: bool) -> None:
    found, faults = validate(StoreSettings, {"url": url})
    assert (found is not None) == is_allowed
    assert "canary" not in "".join(text(url) for _, text in faults)


def make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("name", ["topology.yaml", "config.yaml"])
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.symlink_to("/dev/zero"), "the file is too large; allowed: 1048576 bytes"),
        (lambda path: path.symlink_to("/dev/urandom"), "the file is too large; allowed: 1048576 bytes"),
        (lambda path: path.write_text("#" * (1 << 20) + "#"), "the file is too large; allowed: 1048576 bytes"),
        (make_sparse, "the file is too large; allowed: 1048576 bytes"),
        (os.mkfifo, "cannot be read, no data arrived within 0.01 s; allowed: a file"),
        (lambda path: path.symlink_to(path), "cannot be read, Too many levels of symbolic links"),
        (lambda path: path.mkdir(), "cannot be read, Is a directory"),
    ],
    ids=["zeros", "noise", "large", "sparse", "pipe", "loop", "folder"],
)
def test_any_file_is_read_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path], object], problem: str
) -> None:
    monkeypatch.setattr("runner.config.project.SILENCE_SECONDS", 0.01)
    for other in {"topology.yaml", "config.yaml"} - {name}:
        (tmp_path / other).write_text("")
    make(tmp_path / name)
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path, {})
    (fault,) = caught.value.faults
    assert fault.startswith(f"{name}:1: {problem}")
    assert read_quickly(tmp_path) is None or name == "topology.yaml"
