"""Patterns of policies, matched as by RabbitMQ, in bounded time."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runner.config.cross_checks import check_references
from runner.config.document import Document
from runner.config.policy_pattern import MAX_PATTERN_BYTES, matches, only, only_names, pattern_problem
from runner.config.topology_file import Topology
from runner.config.validation import validate_document
from runner.topology.compile import compile_topology
from runner.topology.live import Live
from runner.topology.model import Policy
from runner.topology.plan import Mark
from runner.topology.planner import make_plan

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)


def faults(topology: dict[str, Any]) -> list[str]:
    # A dollar sign starts a variable, so it is written twice.
    document = Document("topology.yaml", yaml.safe_dump(topology, sort_keys=False).replace("$", "$$"), {})
    check_references(validate_document(Topology, document), document)
    return [str(one) for one in document.faults]


def limited(pattern: str, definition: dict[str, Any] | None = None, **queue: Any) -> dict[str, Any]:
    """Return the generated policy of a queue ``work`` with retries, beside a policy with this pattern."""
    topology = Topology.model_validate(
        {
            "queues": {"work": {"retry": ["1s"], **queue}},
            "policies": {"cap": {"pattern": pattern, "definition": definition or {"max-length": 5}}},
        }
    )
    (found,) = [one for one in compile_topology(topology).policies if one.name == "fastcommerce.queue.work"]
    return dict(found.definition)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        (r"^other\z", "other", True),
        (r"^other\z", "other\n", False),
        ("^other$", "other\n", True),
        ("^[[:lower:]]+$", "work", True),
        ("^[[:lower:]]+$", "Work", False),
        (r"^(?<part>wo)rk", "work", True),
        (r"^w\w++k", "work", False),
        (r"\Awork\Z", "work\n", True),
        (r"(?i)WORK", "work", True),
        (r"^\Qa.b\E$", "a.b", True),
        (r"^\Qa.b\E$", "aXb", False),
        ("^(?|(a)|(b))$", "b", True),
        (r"\h", "a b", True),
        ("^.$", "ä", False),
        ("^..$", "ä", True),
        ("", "anything", True),
    ],
)
def test_a_pattern_matches_as_pcre_does_on_bytes(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)*$", "^(a*)*b?$", r"^(\w+\w*)+$", "^(([a-z])+.)+[A-Z]$"])
def test_an_endless_match_is_given_up_within_a_second(pattern: str) -> None:
    begun = time.process_time()
    found = [matches(pattern, "a" * length + "!") for length in (30, 60, 120, 254)]
    assert time.process_time() - begun < 1
    assert None in found
    assert True not in found


@pytest.mark.parametrize(
    "pattern", ["(", "*", r"\y", "[z-a]", "a{3,1}", "(?<n>a)(?<n>b)", "[[.a.]]", "(*UTF)a", "a{,3}"]
)
def test_an_unreadable_pattern_is_a_configuration_error_with_its_line(pattern: str) -> None:
    assert pattern_problem(pattern) is not None
    (fault,) = faults({"policies": {"cap": {"pattern": pattern, "definition": {"max-length": 5}}}})
    assert fault.startswith("topology.yaml:3: policies.cap.pattern: ")
    assert len(fault.splitlines()) == 1


def test_a_pattern_that_cannot_be_evaluated_for_a_queue_of_the_file_is_a_configuration_error() -> None:
    queue = "a" * 30 + "!"
    policies = {"cap": {"pattern": "^(a+)+$", "definition": {"max-length": 5}}}
    (fault,) = faults({"queues": {queue: {"type": "classic"}}, "policies": policies})
    assert "cannot be evaluated for the name 'aaaa" in fault
    assert faults({"queues": {"work": {"type": "classic"}}, "policies": policies}) == []


def test_a_pattern_that_newer_brokers_refuse_for_its_length_is_a_configuration_error() -> None:
    policies = {"cap": {"pattern": "x" * (MAX_PATTERN_BYTES + 1), "definition": {"max-length": 5}}}
    (fault,) = faults({"policies": policies})
    assert "has 1025 bytes; allowed: up to 1024" in fault


@pytest.mark.parametrize(
    "pattern",
    ["^[[:lower:]]+$", r"^work\z", r"\Awork", "^(?i)WORK$", r"^\Qwork\E", "^w(?=ork)", r"^\p{Ll}+$", "^wo++rk$"],
)
def test_a_limit_of_topology_yaml_is_never_lost_behind_a_generated_policy(pattern: str) -> None:
    assert limited(pattern)["max-length"] == 5


@pytest.mark.parametrize("pattern", ["^[[:upper:]]+$", r"^work\n", "^WORK$", r"^wor\z", "^work(?!$)$x", "^[^w]"])
def test_a_policy_that_does_not_match_is_not_merged(pattern: str) -> None:
    assert "max-length" not in limited(pattern)


@given(NAMES, NAMES)
def test_a_generated_pattern_matches_its_name_and_no_other(name: str, other: str) -> None:
    assert only_names(only(name)) == (name,)
    for candidate in (other, f"{name}\n", f"{name} ", f"a{name}", name.upper(), name[:-1]):
        assert bool(matches(only(name), candidate)) == (candidate == name)
    assert matches(f"(?:){only(name)}", name) is True, "the engine agrees"
    assert matches(f"(?:){only(name)}", f"{name}\n") is False


@pytest.mark.parametrize("name", ["a\n", "\n", "a b", "#", "a.b", "$", r"\z", "ä", "名前", "a-b&c~", "\t\v\f\r"])
def test_a_name_with_special_characters_is_matched_alone(name: str) -> None:
    assert matches(f"(?:){only(name)}", name) is True
    assert matches(only(name), name + "\n") is False


def plan_warnings(*policies: Policy) -> tuple[str, ...]:
    objects = compile_topology(Topology.model_validate({"queues": {"work": {"retry": ["1s"]}}}))
    live = Live(version=(3, 10, 8), policies={one.name: one for one in policies})
    plan = make_plan(objects, live, Topology().retire)
    assert {one.name for one in plan.of(Mark.UNMANAGED)} == {one.name for one in policies}
    return plan.warnings


@pytest.mark.parametrize("pattern", [r"\y", "a{,3}", "(*UTF8)x", "(?1)(x)", "x" * 1100])
def test_a_policy_of_the_broker_that_cannot_be_evaluated_is_a_warning_and_never_an_error(pattern: str) -> None:
    (warning,) = plan_warnings(Policy("theirs", pattern, "queues", {"max-length": 1}, 5))
    assert warning.startswith("policy 'theirs' cannot be evaluated; pattern '")
    assert "may hide" not in warning


def test_a_warning_names_the_generated_policy_that_may_be_hidden() -> None:
    (warning,) = plan_warnings(Policy("theirs", r"\y", "queues", {"max-length": 1}, 5000))
    assert "cannot be evaluated and may hide 'fastcommerce.queue.work';" in warning


def test_a_policy_that_only_rabbitmq_can_read_is_evaluated() -> None:
    assert plan_warnings(Policy("theirs", r"^other\z", "queues", {"max-length": 1}, 5000)) == ()
    (warning,) = plan_warnings(Policy("theirs", r"^work\z", "queues", {"max-length": 1}, 5000))
    assert "the broker's own policy 'theirs' hides 'fastcommerce.queue.work'" in warning


def test_importing_the_runner_and_its_worker_does_not_load_the_engine() -> None:
    code = "import sys, runner, runner.worker.lifecycle; sys.exit('pcre2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
