"""Patterns of policies, compared with the answers of a real broker."""

from __future__ import annotations

import re
from pathlib import Path

from runner.config.policy_pattern import matches, only
from tests.rabbit import Vhost
from tests.topologies import Shop

#: The broker must agree on each pair of these patterns and ``NAMES``, about 600 pairs.
PATTERNS = [
    r"^other\z", "^other$", "^[[:lower:]]+$", "^[[:upper:][:digit:]]+$", r"^\w+$", r"\s", r"\W$", r"^\d", "^.$", "^..$",
    "(?i)ORDER", r"^order\.(?!dlq)", r"(?<=order\.)new", "^(?|(a)|(b))$", r"^\Qa.b\E$", "^a++b", "^(?>a*)b", r"\bnew\b",
    r"\x61", r"^\p{L}", "(a)\\1", "[^[:print:]]", r"^[\w.]+\Z", "(?x) ^ o t h e r $", "(?s)^a.b", "(?m)^b", "^(a+)+$",
    "é", "[é]", r"\xc3", r"\R", "^$", "",
]  # fmt: skip
NAMES = [
    "other", "other\n", "Other", "order.new", "order.dlq", "ORDER", "a", "b", "a.b", "aXb", "aab", "aa", "a b", "a\nb",
    "é", "ÿ", "日本", "12", "x_1", "#",
]  # fmt: skip
HARD_NAMES = [
    "plain",
    "plain\n",
    "a b",
    "#",
    "$",
    r"\z",
    "a.b",
    "axb",
    "ä",
    "\n",
    "{a,b}",
    "a-b",
    "a&b~",
    "(x)",
    "a\tb",
]


#: The number of the first queue. Erlang prints a list of smaller numbers as text.
FIRST = 1000
#: An Erlang program that sets one policy after another, and prints the numbers of the queues to which each applies.
_ASK = """
VHost = {vhost},
[begin
    ok = rabbit_policy:set(VHost, <<"asked">>, Pattern, [{{<<"max-length">>, 9}}], 9, <<"queues">>, <<"guest">>),
    [Number || {{Number, Name}} <- {names}, begin
        {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(VHost, queue, Name)),
        rabbit_policy:name(Queue) =:= <<"asked">>
    end]
end || Pattern <- {patterns}].
"""


def binary(text: str) -> str:
    return f"<<{','.join(map(str, text.encode()))}>>"


def applied(vhost: Vhost, patterns: list[str], names: list[str]) -> list[set[str]]:
    """Return for each pattern the names of the queues to which the broker applies a policy with it."""
    queues = [{"name": one, "durable": True, "auto_delete": False, "arguments": {}} for one in names]
    vhost.rabbit.api("POST", f"/definitions/{vhost.name}", {"queues": queues})
    numbered = ",".join(f"{{{number}, {binary(name)}}}" for number, name in enumerate(names, FIRST))
    code = _ASK.format(vhost=binary(vhost.name), names=f"[{numbered}]", patterns=f"[{','.join(map(binary, patterns))}]")
    found = vhost.rabbit.rabbitmqctl("eval", code)
    lists = re.findall(r"\[([\d,\s]*)\]", found.strip()[1:-1])
    return [{names[int(one) - FIRST] for one in each.split(",") if one.strip()} for each in lists]


def test_the_broker_agrees_on_more_than_300_patterns_and_names(vhost: Vhost) -> None:
    answers = applied(vhost, PATTERNS, NAMES)
    assert len(answers) == len(PATTERNS)
    compared = 0
    for pattern, theirs in zip(PATTERNS, answers, strict=True):
        ours = {name: matches(pattern, name) for name in NAMES}
        unsure = {name for name, answer in ours.items() if answer is None}
        assert {name for name, answer in ours.items() if answer} == theirs - unsure, pattern
        compared += len(ours) - len(unsure)
    print(f"{compared} pairs of {len(PATTERNS) * len(NAMES)} agree")
    assert compared > 500


def test_a_generated_pattern_applies_only_to_its_queue(vhost: Vhost) -> None:
    answers = applied(vhost, [only(name) for name in HARD_NAMES], HARD_NAMES)
    assert answers == [{name} for name in HARD_NAMES]


def test_a_foreign_policy_that_only_rabbitmq_can_read_is_only_a_warning(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    policies = {"cap": {"pattern": "^[[:lower:]]+$$", "definition": {"max-length": 5}}}
    shop.write({"queues": {"work": {"retry": ["1s"]}}, "policies": policies})
    theirs = {"other": (r"^other\z", 1), "odd": ("^a{,3}z", 5), "odder": ("^b{,3}z", 5000)}
    for name, (pattern, priority) in theirs.items():
        body = {"pattern": pattern, "apply-to": "queues", "definition": {"max-length": 1}, "priority": priority}
        vhost.rabbit.api("PUT", f"/policies/{vhost.name}/{name}", body)
    assert shop.run("plan")[0] == 2
    code, output = shop.run("apply")
    assert code == 0
    assert "policy 'odd' cannot be evaluated" in output
    assert "policy 'odder' cannot be evaluated" in output
    assert "and may hide" in output
    plan = shop.plan()
    assert {(one["mark"], one["name"]) for one in plan["changes"]} == {("?", name) for name in theirs}
    policy = vhost.rabbit.api("GET", f"/policies/{vhost.name}/fastcommerce.queue.work")
    assert policy["definition"]["max-length"] == 5
    code, output = shop.run("import", "live")
    assert code == 0


def test_a_policy_of_an_older_version_is_changed_in_place(tmp_path: Path, vhost: Vhost) -> None:
    shop = Shop(tmp_path / "shop", vhost)
    shop.write({"queues": {"work": {"retry": ["1s"]}}})
    assert shop.run("apply")[0] == 0
    path = f"/policies/{vhost.name}/fastcommerce.queue.work"
    there = vhost.rabbit.api("GET", path)
    vhost.rabbit.api("PUT", path, there | {"pattern": "^work$"})
    (change,) = shop.plan()["changes"]
    assert (change["mark"], change["name"]) == ("~", "fastcommerce.queue.work")
    assert shop.run("apply")[0] == 0
    assert vhost.rabbit.api("GET", path)["pattern"] == r"^work\z"
