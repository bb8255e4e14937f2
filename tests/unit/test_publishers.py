"""All tests publish and connect through one module, which waits for confirms and closes connections."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.running import ROOT

#: The files that may call pika themselves, by the name of the function.
ALLOWED = {
    # pika cannot send the messages of hostile.py, which waits for the confirms itself. The server of test_link.py never
    # responds.
    "basic_publish": {"tests/amqp.py", "tests/hostile.py", "tests/integration/test_link.py"},
    "BlockingConnection": {"tests/amqp.py", "tests/chaos/checker.py"},
    "SelectConnection": {"tests/unit/test_pika_adapter.py"},
    "Session": {"tests/amqp.py", "tests/hostile.py", "tests/integration/test_link.py"},
    "BaseConnection": set(),
}
#: These files imitate pika, and publish nothing to a broker.
IMITATIONS = ("tests/simulation/", "tests/chaos/failing/")


def calls(source: str) -> set[str]:
    """Return the names of all functions and methods that a source calls, also under an alias."""
    found: set[str] = set()
    aliases: dict[str, str] = {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            aliases |= {one.asname or one.name: one.name for one in node.names}
        # ``pytest.Session`` is no connection.
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "pytest"):
            found.add(node.attr)
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                found.add(aliases.get(node.func.id, node.func.id))
            # getattr(channel, "basic_publish") and functools.partial(channel.basic_publish, ...)
            found |= {one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def test_only_one_module_publishes_messages_and_opens_connections() -> None:
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name.startswith(IMITATIONS) or path == Path(__file__):
            continue
        found = calls(path.read_text())
        wrong += [f"{name}: {call}" for call, where in ALLOWED.items() if call in found and name not in where]
    assert wrong == [], "use channel_to, publish and publish_all of tests/amqp.py"


@pytest.mark.parametrize(
    "source",
    [
        "channel.basic_publish('', 'a', b'')",
        "publish = channel.basic_publish\npublish('', 'a', b'')",
        "functools.partial(channel.basic_publish, '')(b'')",
        "getattr(channel, 'basic_publish')('', 'a', b'')",
        "lambda channel: channel.basic_publish('x', '', b'')",
        "with pika.BlockingConnection(one) as connection: connection.channel().basic_publish('', 'a', b'')",
    ],
)
def test_a_publisher_is_found_in_any_form(source: str) -> None:
    assert "basic_publish" in calls(source)


@pytest.mark.parametrize(
    "source",
    [
        "pika.BlockingConnection(one)",
        "from pika import BlockingConnection as Connection\nConnection(one)",
        "open_one = pika.BlockingConnection",
        "import pika as p\np.BlockingConnection(one)",
        "contextlib.closing(pika.adapters.blocking_connection.BlockingConnection(one))",
    ],
)
def test_a_connection_is_found_in_any_form(source: str) -> None:
    assert "BlockingConnection" in calls(source)
