"""The lines of children and of the supervisor on one terminal."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.logs import timed
from runner.supervisor.output import line_writer as writer
from runner.supervisor.output.console import Console
from runner.supervisor.output.journal import Journal
from runner.supervisor.output.line import InOrder, Line
from runner.supervisor.output.line_writer import LineWriter
from runner.supervisor.processes.child import LineSplitter

TIMEOUT = 10.0
CLOCK = r"\d\d:\d\d:\d\d "


def printed(*calls: tuple[str, tuple[Any, ...]], **options: Any) -> list[str]:
    """Return the lines that a console writes for these calls, without the time."""
    stream = io.StringIO()
    one = Journal(Console(stream, **options))
    for name, arguments in calls:
        getattr(one, name)(*arguments)
    one.close(TIMEOUT)
    assert stream.getvalue().endswith("\n")
    return [re.sub(f"^{CLOCK}", "", line) for line in stream.getvalue()[:-1].split("\n")]


def test_each_line_has_its_time_and_slot() -> None:
    stream = io.StringIO()
    one = Journal(Console(stream, width=10))
    one.child("payment.1", [b"hello"])
    one.close(TIMEOUT)
    assert re.fullmatch(CLOCK + r"payment\.1  \| hello\n", stream.getvalue())


def test_the_supervisor_s_lines_are_marked_runner_with_the_level_unless_it_is_information() -> None:
    assert printed(("say", ("ready",)), ("say", ("careful", "warning")), ("say", ("given up", "error"))) == [
        "runner   | ready",
        "runner   | WARNING: careful",
        "runner   | ERROR: given up",
    ]


def test_lines_stay_in_order() -> None:
    calls = [("child", ("a.1", [str(number).encode()])) for number in range(2000)]
    assert [line.rpartition(" ")[2] for line in printed(*calls)] == [str(number) for number in range(2000)]


def test_a_late_line_is_printed_before_the_lines_that_it_caused() -> None:
    now = time.time()
    calls = [
        ("child", ("payment.1", [timed(now + 0.02, "charged").encode()])),
        ("child", ("order_api.1", [timed(now + 0.01, "accepted").encode()])),
        ("child", ("payment.1", [timed(now + 0.03, "paid").encode()])),
    ]
    assert [line.rpartition(" ")[2] for line in printed(*calls)] == ["accepted", "charged", "paid"]


def test_lines_wait_for_older_ones_for_a_limited_time() -> None:
    stream = Counting()
    one = Journal(Console(stream))
    one.child("a.1", [timed(time.time(), "now").encode()])
    one.child("b.1", [timed(time.time() - 0.05, "before").encode()])
    assert re.findall("now|before", stream.written.get(timeout=TIMEOUT)) in (["before", "now"], ["before"])
    one.close(TIMEOUT)


def test_a_clock_that_is_set_back_delays_no_line() -> None:
    held = InOrder(60.0)
    held.add([Line(time.time() + 3600, "a.1", b"from the future")])
    assert [line.text for line in held.take()] == [b"from the future"]
    assert held.wait is None


def test_on_a_terminal_ids_are_shortened() -> None:
    order = "4240e46b-1d8e-4c3f-9b0a-5f2f6a7d9e10"
    raw = f"order {order}: approved, payment {order}; {order[:20]}".encode()
    assert printed(("child", ("a.1", [raw])), has_short_ids=True) == [
        f"a.1      | order 4240e46b\u2026: approved, payment 4240e46b\u2026; {order[:20]}"
    ]
    assert order in printed(("child", ("a.1", [raw])))[0]
    assert order in printed(("child", ("a.1", [raw])), has_short_ids=True, log_format="json")[0]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"a\x1b[2Jb", "a\\x1b[2Jb"),
        (b"\xff", "\\xff"),
        (b"a\rb", "a\\rb"),
        ("Zo\u00eb \u20ac".encode(), "Zo\u00eb \u20ac"),
        (b"", ""),
        (b'{"a": 1}', '{"a": 1}'),
    ],
)
def test_output_of_a_child_cannot_move_the_cursor(raw: bytes, shown: str) -> None:
    assert printed(("child", ("a.1", [raw]))) == [f"a.1      | {shown}"]


def test_supervisor_lines_about_a_child_cannot_move_the_cursor_or_imitate_another_line() -> None:
    assert printed(("say", ("a.1 RUNNING: x\x1b[2J\n12:00:00 runner | all fine",))) == [
        "runner   | a.1 RUNNING: x\\x1b[2J\\n12:00:00 runner | all fine"
    ]


def test_in_json_each_line_is_an_object() -> None:
    line = json.loads(printed(("say", ("careful", "warning")), log_format="json")[0])
    assert line.pop("time")
    assert line == {"level": "warning", "service": "runner", "slot": "runner", "message": "careful"}


def test_in_json_a_child_s_own_object_is_passed_on_and_other_text_is_wrapped() -> None:
    posing = '{"slot": "b.1", "message": "y"}'
    raw = [b'{"slot": "a.2", "message": "x"}', b"plain", b'{"open": ', b"[1]", b"{} {}", posing.encode()]
    found = [json.loads(line) for line in printed(*(("child", ("a.2", [one])) for one in raw), log_format="json")]
    assert found[0] == {"slot": "a.2", "message": "x"}
    assert [one["message"] for one in found[1:]] == ["plain", '{"open": ', "[1]", "{} {}", posing]
    assert {(one["service"], one["slot"]) for one in found[1:]} == {("a", "a.2")}


def test_an_endlessly_nested_object_of_a_child_is_plain_text() -> None:
    raw = b'{"a":' * 10_000
    found = printed(("child", ("a.1", [raw])), ("child", ("a.1", [b"next"])), log_format="json")
    assert [json.loads(line)["message"] for line in found] == [raw.decode(), "next"]


@settings(deadline=None)
@given(st.binary())
def test_any_output_of_a_child_is_one_object_on_one_line(raw: bytes) -> None:
    found = printed(("child", ("a.1", [raw.replace(b"\n", b"")])), log_format="json")
    assert len(found) == 1
    assert isinstance(json.loads(found[0]), dict)


def test_all_instances_of_a_service_have_the_same_colour() -> None:
    found = printed(
        ("child", ("payment.1", [b"x"])), ("child", ("audit.1", [b"x"])), ("child", ("payment.2", [b"x"])), colour=True
    )
    colours = [re.findall(r"\x1b\[(\d+)m(?:payment|audit)", line)[0] for line in found]
    assert colours[0] == colours[2] != colours[1]


def test_warnings_and_errors_are_coloured() -> None:
    warning, error = printed(("child", ("a.1", [b"WARNING: x"])), ("child", ("a.1", [b"ERROR: x"])), colour=True)
    assert warning.endswith("\x1b[33mWARNING: x\x1b[0m")
    assert error.endswith("\x1b[31mERROR: x\x1b[0m")


class Gated(io.StringIO):
    """A terminal that is paused until the test resumes it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.gate = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.gate.wait(TIMEOUT)
        return super().write(text)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_paused_terminal_blocks_no_process_and_dropped_lines_are_counted(
    log_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 5)
    stream = Gated()
    one = Journal(Console(stream, log_format))
    one.say("first")
    assert stream.reached.wait(TIMEOUT)
    for number in range(20):
        one.say(f"line {number}")
    stream.gate.set()
    one.close(TIMEOUT)
    found = stream.getvalue().splitlines()
    assert len(found) == 1 + 1 + 5
    if log_format == "json":
        assert json.loads(found[1])["level"] == "warning"
        assert json.loads(found[1])["message"] == "15 lines dropped, because the reader of this output is too slow"
    else:
        assert found[1].endswith("| WARNING: 15 lines dropped, because the reader of this output is too slow")
    assert "line 15" in found[2]
    assert "line 19" in found[-1]


class Counting(io.StringIO):
    """A stream that keeps each write separate."""

    def __init__(self) -> None:
        super().__init__()
        self.written: SimpleQueue[str] = SimpleQueue()

    def write(self, text: str) -> int:
        self.written.put(text)
        return len(text)


class Batches(LineWriter):
    """A writer without a hold, whose batches therefore do not depend on the age of a line."""

    def __init__(self) -> None:
        self.written: SimpleQueue[list[str | bytes]] = SimpleQueue()
        super().__init__("batches")

    def write(self, lines: Sequence[Line], dropped: int) -> bool:
        assert not dropped
        self.written.put([line.text for line in lines])
        return True


def test_a_line_after_a_pause_is_written_at_once_and_lines_soon_after_it_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "PAUSE", 60.0)
    monkeypatch.setattr(writer, "MANY", 10)
    one = Batches()
    one.put([Line(time.time(), "a.1", "first")])
    assert one.written.get(timeout=TIMEOUT) == ["first"]
    texts = [f"line {number}" for number in range(10)]
    for text in texts:
        one.put([Line(time.time(), "a.1", text)])
    assert one.written.get(timeout=TIMEOUT) == texts, "many lines do not wait for the pause to end"
    one.put([Line(time.time(), "a.1", "last but one")])
    one.put([Line(time.time(), "a.1", "last")])
    one.close(TIMEOUT)
    assert one.written.get_nowait() == ["last but one", "last"], "the end does not wait for the pause either"
    assert one.written.empty()


def test_a_line_soon_after_another_is_written_without_a_third() -> None:
    stream = Counting()
    one = Journal(Console(stream))
    one.say("first")
    assert "first" in stream.written.get(timeout=TIMEOUT)
    one.say("second")
    assert "second" in stream.written.get(timeout=TIMEOUT)
    one.close(TIMEOUT)


def test_closing_does_not_wait_for_a_terminal_that_stays_paused() -> None:
    stream = Gated()
    one = Journal(Console(stream))
    one.say("first")
    assert stream.reached.wait(TIMEOUT)
    one.close(0.0)
    stream.gate.set()


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_disappears_stops_no_process() -> None:
    one = Journal(Console(Closed()))
    one.say("first")
    one.close(TIMEOUT)
    one.say("second")
    one.close(TIMEOUT)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_a_character_still_gets_all_others(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    for text in ("5 \u20ac paid", "next"):
        one = Journal(Console(stream))
        one.child("a.1", [text.encode()])
        one.close(TIMEOUT)
    written = raw.getvalue().decode(encoding)
    assert " paid" in written
    assert "next" in written


# From chunks to lines.


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20)))
def test_lines_do_not_depend_on_the_chunks_of_their_bytes(pieces: list[bytes]) -> None:
    whole, pieced = LineSplitter(), LineSplitter()
    expected = whole.feed(b"".join(pieces)) + whole.rest()
    assert [line for piece in pieces for line in pieced.feed(piece)] + pieced.rest() == expected


def test_a_line_waits_for_its_end_and_the_last_may_lack_it() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\r\ntw") == [b"one"]
    assert splitter.feed(b"o\n\nthr") == [b"two", b""]
    assert splitter.rest() == [b"thr"]
    assert splitter.rest() == []


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_a_long_line_is_split_the_same_way_for_any_chunks(
    size: int, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.supervisor.processes.child.MAX_LINE", 10)
    splitter = LineSplitter()
    text = bytes(range(65, 65 + 25)) + end
    found = [line for start in range(0, len(text), size) for line in splitter.feed(text[start : start + size])]
    assert found + splitter.rest() == [text[:10], text[10:20], text[20:25]]
