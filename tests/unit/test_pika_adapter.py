"""Our connection passes the same frames to its channels as pika's, and only its module uses private names of pika."""

from __future__ import annotations

import ast
import functools
import re
import string
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import frame

from runner.amqp import pika_adapter
from runner.amqp.pika_adapter import KNOWN_VERSION, VARIABLE, FastChannel, FastConnection, chosen_connection
from runner.amqp.wire.frame_codec import FrameReader, write_ack
from runner.amqp.wire.property_codec import FLAGS
from runner.errors import ConfigError
from tests.running import ROOT
from tests.unit.test_frame_codec import PROPERTIES, SHORT


class Reader:
    """A connection without a socket, which records the frames for its channels."""

    def __init__(self, kind: Any) -> None:
        self.frames: list[tuple[Any, ...]] = []
        self.connection = kind.__new__(kind)
        self.connection._frame_buffer = b""
        self.connection._reader = FrameReader()
        self.connection.bytes_received = self.connection.frames_received = 0
        self.connection.callbacks = pika.callback.CallbackManager()
        self.connection._heartbeat_checker = SimpleNamespace(received=lambda: None)
        self.connection.params = SimpleNamespace(frame_max=1 << 17)
        self.connection.connection_state = self.connection.CONNECTION_OPEN
        channel = FastChannel(self.connection, 1, lambda _: None)
        channel._state = channel.OPEN
        channel._consumers["tag"] = self.delivered
        channel.on_confirm = self.confirmed
        for method in (pika.spec.Basic.Ack, pika.spec.Basic.Nack):
            self.connection.callbacks.add(1, method, self.confirmed, one_shot=False)
        channel.add_on_return_callback(lambda _, method, properties, body: self.frames.append(("return", body)))
        # A second channel, whose frames may arrive in between.
        other = FastChannel(self.connection, 2, lambda _: None)
        other._state = other.OPEN
        other._consumers["tag"] = self.delivered
        self.connection._channels = {1: channel, 2: other}

    def delivered(self, _, method, properties, body):
        known = {name: getattr(properties, name) for name in (*FLAGS, "problem", "remainder")}
        self.frames.append(
            (
                method.consumer_tag, method.delivery_tag, method.redelivered, method.exchange, method.routing_key,
                known, body,
            )
        )  # fmt: skip

    def confirmed(self, one):
        self.frames.append((type(one.method).__name__, one.method.delivery_tag, one.method.multiple))


def frames_of(method: Any, fields: dict[str, Any], bodies: list[bytes], channel: int = 1) -> list[bytes]:
    header = frame.Header(channel, sum(map(len, bodies)), pika.BasicProperties(**fields))
    all_of_it = (frame.Method(channel, method), header, *(frame.Body(channel, one) for one in bodies))
    return [bytes(one.marshal()) for one in all_of_it]


def message(method: Any, fields: dict[str, Any], bodies: list[bytes]) -> bytes:
    return b"".join(frames_of(method, fields, bodies))


def woven(orders: list[bool], first: list[bytes], second: list[bytes]) -> bytes:
    """Return a strategy for the frames of two channels, in an order that AMQP allows."""
    rest, taken = [list(first), list(second)], []
    for is_second in orders:
        if rest[is_second]:
            taken.append(rest[is_second].pop(0))
    return b"".join(taken + rest[0] + rest[1])


ALL = [
    st.builds(
        message,
        st.builds(
            pika.spec.Basic.Deliver, st.just("tag"), st.integers(1, 1 << 40), st.booleans(), SHORT, SHORT
        ),
        PROPERTIES,
        st.lists(st.binary(min_size=1, max_size=200), max_size=3),
    ),
    st.builds(
        lambda fields, body: message(pika.spec.Basic.Return(312, "NO_ROUTE", "e", "k"), fields, [body]),
        PROPERTIES,
        st.binary(min_size=1, max_size=50),
    ),
    st.builds(
        lambda kind, tag, multiple: frame.Method(1, kind(tag, multiple)).marshal(),
        st.sampled_from([pika.spec.Basic.Ack, pika.spec.Basic.Nack]),
        st.integers(1, 1 << 40),
        st.booleans(),
    ),
    st.just(frame.Method(1, pika.spec.Channel.Flow(True)).marshal()),
    st.just(frame.Heartbeat().marshal()),
    st.builds(
        lambda orders, bodies: woven(
            orders,
            frames_of(pika.spec.Basic.Deliver("tag", 1, False, "e", "first"), {"type": "first"}, bodies),
            frames_of(pika.spec.Basic.Deliver("tag", 2, False, "e", "second"), {"type": "second"}, bodies, 2),
        ),
        st.lists(st.booleans(), max_size=8),
        st.lists(st.binary(min_size=1, max_size=20), max_size=2),
    ),
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.one_of(*ALL), max_size=8), st.lists(st.integers(0, 4000), max_size=12))
def test_any_frames_in_any_chunks_are_read_as_by_pika(pieces, cuts):
    raw = b"".join(pieces)
    ours, pikas = Reader(FastConnection), Reader(pika.SelectConnection)
    ends = [*sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    for reader in (ours, pikas):
        begin = 0
        for end in ends:
            reader.connection._on_data_available(raw[begin:end])
            begin = end
    assert ours.frames == pikas.frames
    assert ours.connection.bytes_received == pikas.connection.bytes_received == len(raw)


def test_deliveries_for_a_cancelled_consumer_are_returned_as_by_pika():
    reader = Reader(FastConnection)
    channel = reader.connection._channels[1]
    channel._cancelled.add("tag")
    rejected: list[int] = []
    channel.basic_reject = rejected.append
    deliver = pika.spec.Basic.Deliver("tag", 5, False, "", "q")
    reader.connection._on_data_available(message(deliver, {"type": string.ascii_letters}, [b"x"]))
    assert (reader.frames, rejected) == ([], [5])


def test_a_frame_without_its_end_is_refused_as_by_pika():
    raw = message(pika.spec.Basic.Deliver("tag", 5, False, "", "q"), {}, [b"x"])
    for broken in (raw[:-1] + b"\0", write_ack(1, 5, multiple=False)[:-1] + b"\0"):
        with pytest.raises(pika.exceptions.InvalidFrameError):
            Reader(FastConnection).connection._on_data_available(broken)


def test_the_environment_chooses_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert chosen_connection() is FastConnection
    monkeypatch.setenv(VARIABLE, "plain")
    assert chosen_connection() is pika.SelectConnection
    for wrong in ("fast", "PLAIN", "1", "0", "plain "):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ConfigError, match=f"^{VARIABLE}: unknown value '{wrong}'; allowed: plain, or no value$"):
            chosen_connection()


def test_an_unknown_version_of_pika_is_only_used_without_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    (bounds,) = [
        one
        for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        if one.startswith("pika")
    ]
    assert bounds == f"pika>={KNOWN_VERSION},<1.5"
    monkeypatch.delenv(VARIABLE, raising=False)
    for version in ("1.3.2", "1.5.0", "1.40.0", "2.0.0b1", "14.0"):
        monkeypatch.setattr(pika, "__version__", version)
        with pytest.raises(ConfigError, match=f"^pika: unknown version {version}; allowed: 1.4, or "):
            chosen_connection()
    monkeypatch.setenv(VARIABLE, "plain")
    assert chosen_connection() is pika.SelectConnection


#: The documented names of pika, which other modules may import.
PUBLIC = {"pika", "pika.channel", "pika.exceptions", "pika.spec"}
PIKA = Path(pika.__file__).parent
MODULES = {
    "pika." + ".".join(one.relative_to(PIKA).with_suffix("").parts).removesuffix(".__init__")
    for one in PIKA.rglob("*.py")
}


def names_of(node: ast.AST) -> list[str]:
    found = (getattr(node, kind, None) for kind in ("attr", "name", "id"))
    return [one for one in found if isinstance(one, str)]


@functools.cache
def private_names() -> set[str]:
    """Return the private names in pika's code."""
    nodes = (node for file in PIKA.rglob("*.py") for node in ast.walk(ast.parse(file.read_text())))
    return {name for node in nodes for name in names_of(node) if name.startswith("_") and not name.startswith("__")}


#: A module uses pika, or a private name of another object.
SUSPECT = re.compile(r"pika|(?<!self)(?<!cls)\._[a-zA-Z]|[\"']_[a-zA-Z]")


def insides(source: str) -> list[str]:
    """Return the undocumented parts of pika that a module uses."""
    if not SUSPECT.search(source):
        return []
    tree = ast.parse(source)
    #: The meanings of the names that a module imports from pika.
    known: dict[str, str] = {}
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [(one.name, one.asname or one.name.partition(".")[0], one.asname) for one in node.names]
            known |= {name: full if asname else name for full, name, asname in names if full.startswith("pika")}
            imported += [full for full, *_ in names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "pika":
            known |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
            imported += [node.module or "", *(f"{node.module}.{one.name}" for one in node.names)]

    def full(node: ast.AST) -> str:
        """Return the full name of an expression of pika, or an empty text."""
        if isinstance(node, ast.Name):
            return known.get(node.id, "")
        if isinstance(node, ast.Attribute) and (base := full(node.value)):
            return f"{base}.{node.attr}"
        return ""

    found = [one for one in imported if one in MODULES - PUBLIC or one.rpartition(".")[2] in private_names()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            is_super = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super"
            is_inside = full(node) in MODULES - PUBLIC or (full(node) and isinstance(node.ctx, ast.Store))
            if is_inside or (node.attr in private_names() and not is_own and not is_super):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.ClassDef):
            found += [f"class {node.name}({ast.unparse(one)})" for one in node.bases if full(one)]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr", "hasattr"):
            found += [ast.unparse(node) for one in node.args[1:2] if getattr(one, "value", "") in private_names()]
    return found


@pytest.mark.parametrize(
    "source",
    [
        "connection._terminate_stream(None)",
        "import pika\nx.y().connection._channels[1]",
        "from pika.adapters.select_connection import IOLoop",
        "import pika.heartbeat",
        "import pika.connection as c\nc.Parameters",
        "from pika import data",
        "import pika\nx = pika.connection.URLParameters(u)",
        "import pika\npika.spec.props[60].x = 1\npika.spec.Basic = None",
        "import pika\nclass Mine(pika.SelectConnection): pass",
        "from pika.channel import Channel as C\nclass Mine(C): pass",
        "getattr(channel, '_consumers')",
        "from pika.channel import Channel\nChannel.basic_ack = None",
    ],
)
def test_each_use_of_the_private_parts_of_pika_is_found(source: str) -> None:
    assert insides(source)


@pytest.mark.parametrize(
    "source",
    [
        "import pika\npika.spec.Basic.Nack\npika.URLParameters(url).host = 1",
        "from pika.channel import Channel\ndef f(channel: Channel): channel.basic_ack(1)",
        "class A(B):\n    def _opened(self): super()._opened(); self._channels = {}",
        "from pika import exceptions\nexceptions.AMQPError",
    ],
)
def test_the_public_names_of_pika_are_allowed(source: str) -> None:
    assert insides(source) == []


def test_only_the_adapter_uses_the_private_parts_of_pika() -> None:
    adapter = Path(pika_adapter.__file__)
    found = {
        str(file.relative_to(ROOT)): insides(file.read_text())
        for folder in ("runner", "plugins")
        for file in (ROOT / folder).rglob("*.py")
        if file != adapter
    }
    assert {file: names for file, names in found.items() if names} == {}
    assert len(insides(adapter.read_text())) > 10, "the adapter itself uses them"
