"""The table of versions, compared with the answers of the test's broker."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pika
import pytest
import yaml

from runner.admin.management import Management
from runner.config.argument import (
    EXCHANGE_SETTINGS,
    QUEUE_SETTINGS,
    QUEUE_TYPE,
    argument_problem,
    version_problems,
)
from runner.config.cross_checks import check_references
from runner.config.document import Document
from runner.config.setting import Setting
from runner.config.topology_file import Topology
from runner.config.validation import validate_document
from runner.config.version import (
    CLASSIC,
    EXCHANGE_TYPE_VERSIONS,
    HAS_POLICIES_BY_TYPE,
    MASTER_LOCATOR,
    QUORUM,
    STREAM,
    TRANSIENT_QUEUES,
    excludes,
)
from tests.amqp import channel_to
from tests.rabbit import Refusal, Vhost, wait_until
from tests.topologies import Shop

TYPES = (CLASSIC, QUORUM, STREAM)
#: Settings that another setting requires.
TOGETHER: dict[str, dict[str, Any]] = {
    "dead-letter-routing-key": {"dead-letter-exchange": ""},
    "dead-letter-strategy": {"dead-letter-exchange": "", "overflow": "reject-publish"},
    "delayed-retry-type": {"delayed-retry-min": 1000},
    "ha-params": {"ha-mode": "exactly"},
    "ha-sync-mode": {"ha-mode": "all"},
    "ha-sync-batch-size": {"ha-mode": "all"},
    "ha-promote-on-shutdown": {"ha-mode": "all"},
    "ha-promote-on-failure": {"ha-mode": "all"},
}
#: Values of settings whose type has no list of values.
LONG_ENOUGH = {"expires": 1_000_000, "message-ttl": 1_000_000}


def values(setting: Setting) -> list[Any]:
    if setting.key == "ha-mode":
        return ["all"]
    if setting.words:
        return list(setting.words)
    if setting.key in LONG_ENOUGH:
        return [LONG_ENOUGH[setting.key], -1]
    minimum, maximum = setting.minimum or 0, setting.maximum
    numbers = [minimum, max(minimum, 1), minimum - 1 if minimum > -1 else minimum]
    if maximum is not None:
        numbers += [maximum, maximum + 1]
    by_kind: dict[str, list[Any]] = {"integer": numbers, "boolean": [True], "age": ["1D"], "text": ["x"], "any": [1]}
    return by_kind[setting.kind]


def denied_of(vhost: Vhost) -> set[str] | None:
    live = Management(vhost.url, vhost.rabbit.management).live()
    return None if live.denied is None else set(live.denied)


def refusal(vhost: Vhost, path: str, body: dict[str, Any]) -> str | None:
    try:
        vhost.rabbit.api("PUT", path, body)
    except Refusal as error:
        return error.body
    return None


def test_each_argument_is_refused_or_accepted_as_in_the_table(vhost: Vhost) -> None:
    version, denied = vhost.rabbit.version, denied_of(vhost)
    wrong, compared = [], 0
    for setting in (one for one in QUEUE_SETTINGS if one.is_argument):
        for kind in TYPES:
            for value in values(setting):
                others = {f"x-{key}": one for key, one in TOGETHER.get(setting.key, {}).items()}
                arguments = {**others, setting.argument_key: value}
                known = {setting.argument_key: setting}
                of_value = argument_problem(setting.argument_key, value, repr(value), known, kind)
                of_version = version_problems(
                    {setting.argument_key: value}, version, queue_type=kind, denied=denied
                ).get(setting.argument_key)
                body = {"durable": True, "arguments": {QUEUE_TYPE: kind, **arguments}}
                said = refusal(vhost, f"/queues/{vhost.name}/probe", body)
                if said is None:
                    vhost.delete_queue("probe")
                compared += 1
                # A broker ignores unknown arguments, so the table may refuse more than the broker.
                is_refused_by_us = of_value is not None or of_version is not None
                must_refuse = of_value is None and of_version is not None and "is refused" in of_version
                if (said is not None and not is_refused_by_us) or (said is None and must_refuse):
                    wrong.append((setting.argument_key, kind, value, said, of_value, of_version))
    print(f"{compared} arguments compared with RabbitMQ {version}")
    assert wrong == []


def test_each_policy_key_is_refused_or_accepted_as_in_the_table(vhost: Vhost) -> None:
    version, denied = vhost.rabbit.version, denied_of(vhost)
    wrong, compared = [], 0
    for setting in (one for one in (*QUEUE_SETTINGS, *EXCHANGE_SETTINGS) if not one.key.startswith("federation-")):
        for value in values(setting):
            definition = {**TOGETHER.get(setting.key, {}), setting.key: value}
            body = {"pattern": "^none$", "apply-to": "all", "definition": definition}
            said = refusal(vhost, f"/policies/{vhost.name}/probe", body)
            of_version = version_problems(definition, version, is_policy=True, denied=denied)
            of_value = setting.problem(value, repr(value)) if setting.is_policy else "no policy key"
            compared += 1
            # Times that are too long for timers are refused when a queue is declared, but not in a policy.
            if (said is None) != (of_value is None and not of_version):
                wrong.append((setting.key, value, said, of_value, of_version))
    print(f"{compared} policy keys compared with RabbitMQ {version}")
    # A broker accepts a cluster size of 0 in a policy, although no queue can have it.
    assert [one for one in wrong if one[:2] != ("initial-cluster-size", 0)] == []


BINDINGS: list[tuple[str, str, dict[str, Any], str]] = [
    *(("headers", "", {"x-match": value}, "q") for value in ("all", "any", "all-with-x", "any-with-x")),
    *(("headers", "", {"x-match": value}, "q") for value in ("some", "", "ALL", 1, True, 1.5, ["all"])),
    *((kind, "k", {"x-match": "some"}, "q") for kind in ("direct", "topic", "fanout")),
    ("headers", "#.#.#", {"x-foo": {"a": [1]}}, "q"),
    ("x-local-random", "", {}, "q"),
    ("x-local-random", "", {"x-match": 1}, "q"),
    ("x-local-random", "k", {}, "q"),
    ("x-local-random", "", {}, "quorum"),
    ("x-local-random", "", {}, "stream"),
    ("x-local-random", "", {}, "other"),
]


def test_each_binding_is_refused_or_accepted_as_in_the_table(vhost: Vhost) -> None:
    version = vhost.rabbit.version
    topology: dict[str, Any] = {
        "exchanges": {"other": {"type": "fanout"}},
        "queues": {"q": {"type": "classic"}, "quorum": {"type": "quorum"}, "stream": {"type": "stream"}},
    }
    for name, queue in topology["queues"].items():
        body = {"durable": True, "arguments": {QUEUE_TYPE: queue["type"]}}
        vhost.rabbit.api("PUT", f"/queues/{vhost.name}/{name}", body)
    vhost.rabbit.api("PUT", f"/exchanges/{vhost.name}/other", {"type": "fanout", "durable": True})
    wrong = []
    for kind, key, arguments, destination in BINDINGS:
        if kind in EXCHANGE_TYPE_VERSIONS and not EXCHANGE_TYPE_VERSIONS[kind].covers(version):
            continue
        written = {"source": "e", "destination": destination, "routing_key": key, "arguments": arguments}
        written["destination_type"] = "exchange" if destination == "other" else "queue"
        exchanges = {**topology["exchanges"], "e": {"type": kind}}
        document = Document("t.yaml", yaml.safe_dump({**topology, "exchanges": exchanges, "bindings": [written]}), {})
        check_references(validate_document(Topology, document), document)
        vhost.rabbit.api("PUT", f"/exchanges/{vhost.name}/e", {"type": kind, "durable": True})
        end = "e" if destination == "other" else "q"
        said = "accepted"
        try:
            body = {"routing_key": key, "arguments": arguments}
            vhost.rabbit.api("POST", f"/bindings/{vhost.name}/e/e/{end}/{destination}", body)
        except Refusal as error:
            said = error.body
        if (said == "accepted") != (document.faults == []):
            wrong.append((kind, key, arguments, destination, said, document.faults))
        vhost.delete_exchange("e")
    assert wrong == []


def test_a_policy_key_with_a_typing_error_is_unknown_to_the_broker(vhost: Vhost) -> None:
    body = {"pattern": "", "definition": {"max-lenght": 1}}
    assert "not recognised" in str(refusal(vhost, f"/policies/{vhost.name}/typo", body))


#: An Erlang program that sets one policy after another, and prints its number and the queues to which it applies.
_ASK = """
VHost = {vhost},
[begin
    Set = fun(Policy) ->
        rabbit_policy:set(VHost, <<"asked">>, <<>>, Policy, 9, <<"queues">>, <<"guest">>)
    end,
    ok = Set(Definition),
    {{Key, [Number || {{Number, Name}} <- {queues}, begin
        {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(VHost, queue, Name)),
        rabbit_policy:name(Queue) =:= <<"asked">>
    end]}}
end || {{Key, Definition}} <- {definitions}].
"""


def term(value: Any) -> str:
    if isinstance(value, str):
        return f'<<"{value}">>'
    return str(value).lower()


def test_a_policy_does_not_apply_to_queue_types_that_the_table_excludes_for_one_of_its_keys(vhost: Vhost) -> None:
    version, denied = vhost.rabbit.version, denied_of(vhost)
    numbers = {1000 + index: kind for index, kind in enumerate(TYPES)}
    for kind in TYPES:
        body = {"durable": True, "arguments": {QUEUE_TYPE: kind}}
        vhost.rabbit.api("PUT", f"/queues/{vhost.name}/{kind}", body)
    definitions = {}
    for setting in QUEUE_SETTINGS:
        if not setting.is_policy or setting.key.startswith("federation-"):
            continue
        (value, *_) = [one for one in values(setting) if setting.problem(one, "") is None]
        definition = {**TOGETHER.get(setting.key, {}), setting.key: value}
        if not version_problems(definition, version, is_policy=True, denied=denied):
            definitions[setting.key] = definition
    keys = list(definitions)
    said = ", ".join(
        f"{{{2000 + index}, [{', '.join(f'{{{term(key)}, {term(one)}}}' for key, one in definitions[name].items())}]}}"
        for index, name in enumerate(keys)
    )
    code = _ASK.format(
        vhost=term(vhost.name),
        queues=f"[{', '.join(f'{{{number}, {term(kind)}}}' for number, kind in numbers.items())}]",
        definitions=f"[{said}]",
    )
    answers = vhost.rabbit.rabbitmqctl("eval", code)
    found = {
        keys[int(key) - 2000]: {numbers[int(one)] for one in re.findall(r"\d+", queues)}
        for key, queues in re.findall(r"\{(\d+),\s*\[([^\]]*)\]\}", answers)
    }
    assert found.keys() == definitions.keys()
    for key, definition in definitions.items():
        expected = {kind for kind in TYPES if not any(excludes(one, kind, version) for one in definition)}
        assert found[key] == expected, (key, definition, version)


def test_deprecated_features_are_denied_as_the_broker_reports(vhost: Vhost) -> None:
    version, denied = vhost.rabbit.version, denied_of(vhost)
    try:
        with channel_to(vhost.url) as channel:
            channel.queue_declare("transient", durable=False)
        is_refused = False
    except pika.exceptions.AMQPError:
        is_refused = True
    assert is_refused == (TRANSIENT_QUEUES.problem(version, denied) is not None)
    if denied is not None:
        known = {one["name"] for one in vhost.rabbit.api("GET", "/deprecated-features")}
        assert {TRANSIENT_QUEUES.feature, MASTER_LOCATOR.feature} <= known


def test_exchange_types_and_policies_by_type_exist_since_the_versions_of_the_table(vhost: Vhost) -> None:
    version = vhost.rabbit.version
    for name, span in EXCHANGE_TYPE_VERSIONS.items():
        said = refusal(vhost, f"/exchanges/{vhost.name}/probe", {"type": name, "durable": True})
        assert (said is None) == span.covers(version), (name, said)
    body = {"pattern": "^none$", "apply-to": "quorum_queues", "definition": {"max-length": 1}}
    said = refusal(vhost, f"/policies/{vhost.name}/probe", body)
    assert (said is None) == HAS_POLICIES_BY_TYPE.holds(version), said


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"queues": {"q": {"type": "classic", "arguments": {"x-queue-version": 1}}}}, "x-queue-version 1"),
    (
        {"queues": {"q": {"type": "classic", "arguments": {"x-queue-master-locator": "random"}}}},
        "x-queue-master-locator",
    ),
    ({"queues": {"q": {"type": "classic", "arguments": {"x-consumer-timeout": 60000}}}}, "x-consumer-timeout"),
    ({"policies": {"p": {"pattern": "^q", "definition": {"queue-master-locator": "random"}}}}, "queue-master-locator"),
    ({"policies": {"p": {"pattern": "^q", "definition": {"ha-mode": "all"}}}}, "ha-mode"),
    ({"queues": {"q": {"policy": {"delayed-retry-min": 10}}}}, "delayed-retry-min"),
    ({"queues": {"q": {"policy": {"consumer-timeout": 60000}}}}, "consumer-timeout"),
    ({"queues": {"q": {"policy": {"delivery-limit": -1}}}}, "delivery-limit -1"),
    ({"exchanges": {"e": {"type": "x-local-random"}}}, "x-local-random"),
    ({"exchanges": {"e": {"type": "topic"}}, "queues": {"q": {"bind": {"e": ["#.a.#.#"]}}}}, "3 '#' words"),
    (
        {
            "exchanges": {"e": {"type": "topic"}},
            "bindings": [{"source": "e", "destination": "first", "routing_key": "#.#.#.#"}],
        },
        "4 '#' words",
    ),
    ({"queues": {"q": {"type": "classic", "durable": False}}}, "durable: false"),
]


@pytest.mark.parametrize(("topology", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_a_refused_setting_is_an_error_before_any_change(
    tmp_path: Path, vhost: Vhost, topology: dict[str, Any], words: str
) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    shop.write({**topology, "queues": {"first": {}, **topology.get("queues", {})}})
    code, output = shop.run("apply")
    if code == 0:
        # This version of RabbitMQ accepts the setting.
        assert "first" in vhost.queues()
        assert not [one for one in shop.plan()["changes"] if one["mark"] != "?"]
        return
    assert code == 78
    (line,) = [one for one in output.splitlines() if words in one and "remove it, or use another broker" in one]
    assert re.search(r"topology\.yaml:\d+: ", line)
    version = ".".join(map(str, vhost.rabbit.version))
    assert version in line
    assert vhost.queues() == {}
    assert json.loads(shop.run("plan", "--json")[1])["exit_code"] == 78


def used_features(vhost: Vhost) -> set[str]:
    try:
        return {one["name"] for one in vhost.rabbit.api("GET", "/deprecated-features/used")}
    except Refusal:
        return set()  # before 3.13


def written(vhost: Vhost, words: str) -> str:
    """Wait until the node's log contains ``words``. Return the log up to then."""
    vhost.rabbit.rabbitmqctl("eval", f'logger:info("{words}").')
    (path,) = (vhost.rabbit.folder / "log").glob("*@localhost.log")

    def log() -> str | None:
        text = path.read_text()
        return text if words in text else None

    return str(wait_until(log, what="the log"))


def test_the_shipped_topology_uses_no_deprecated_feature(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    for name in ("topology.yaml", "config.yaml"):
        text = (Path(__file__).parents[2] / name).read_text()
        (shop.folder / name).write_text(text.replace("${RABBITMQ_URL:-amqp://guest:guest@127.0.0.1:5672/}", vhost.url))
    config = (
        (shop.folder / "config.yaml").read_text().replace("autostart: true", f"management: {vhost.rabbit.management}")
    )
    (shop.folder / "config.yaml").write_text(config)
    used = used_features(vhost)
    written(vhost, "nothing is declared")  # earlier tests are in the log too, and the node writes it late
    assert shop.run("apply")[0] == 0
    log = written(vhost, "all is declared").rpartition("nothing is declared")[2]
    said = [
        line
        for line in log.splitlines()
        # A new vhost has an empty message store, about which the node warns.
        if re.search(r"\[(warning|error)\]|deprecated", line, re.IGNORECASE) and "Message store" not in line
    ]
    assert said == []
    assert used_features(vhost) == used
