"""The form of log lines. A user's text never imitates another line."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.escape import escaped, escaped_json
from runner.logs import (
    DescriptorHandler,
    JsonFormatter,
    TextFormatter,
    json_record,
    set_up,
    time_of,
    timed,
    timestamp,
)
from runner.supervisor.output.line import Line, TextForm

TIMEOUT = 10.0

#: Characters that move a terminal's cursor or end a line: C0 except tab, DEL, C1, and Unicode's line ends.
DANGEROUS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def record(message: str, *args: object, level: int = logging.INFO, error: BaseException | None = None, **extra: object):
    exc_info = (type(error), error, error.__traceback__) if error else None
    one = logging.LogRecord("service.payment", level, __file__, 1, message, args, exc_info)
    one.__dict__.update(extra)
    return one


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\tb", "a\tb"),
        ("a\rb", "a\\rb"),
        ("\x9b", "\\x9b"),
        ("\u2028", "\\u2028"),
        ("Zo\u00eb \u20ac \U0001f600", "Zo\u00eb \u20ac \U0001f600"),
    ],
)
def test_control_characters_are_written_as_escapes(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize(
    ("level", "text"), [(logging.INFO, "hello"), (logging.WARNING, "WARNING: hello"), (logging.ERROR, "ERROR: hello")]
)
def test_a_line_of_text_has_its_level_unless_it_is_information(level: int, text: str) -> None:
    assert TextFormatter().format(record("hello", level=level)) == text


@settings(deadline=None)
@given(st.text())
def test_a_record_without_an_error_is_one_line_of_text_without_controls(text: str) -> None:
    assert not DANGEROUS.search(TextFormatter().format(record("order %s", text)))


def test_a_traceback_follows_on_its_own_lines_with_its_message_escaped() -> None:
    lines = (
        TextFormatter().format(record("failed", level=logging.ERROR, error=raised(ValueError("a\x1bb")))).split("\n")
    )
    assert lines[0] == "ERROR: failed"
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "ValueError: a\\x1bb"


def test_a_line_of_json_contains_time_level_logger_and_message() -> None:
    line = json.loads(JsonFormatter("payment.2").format(record("charging %s", 5, level=logging.WARNING, created=0.5)))
    assert line == {
        "time": "1970-01-01T00:00:00.500+00:00",
        "level": "warning",
        "service": "payment",
        "slot": "payment.2",
        "message": "charging 5",
    }


def test_a_line_of_json_contains_the_order_and_the_traceback_if_there_is_one() -> None:
    text = JsonFormatter("payment.1").format(record("failed", error=raised(ValueError("bad")), order=17))
    line = json.loads(text)
    assert line["order"] == "17"
    assert line["traceback"].endswith("ValueError: bad")


@settings(deadline=None)
@given(st.text())
def test_a_record_is_one_line_of_json_without_controls(text: str) -> None:
    line = JsonFormatter("payment.1").format(record("order %s", text, order=text))
    assert json.loads(line)["message"] == f"order {text}"
    assert not DANGEROUS.search(line)


@pytest.mark.parametrize("text", ["\x9b2J", "a\u2028b", "\x7f", "\x85"])
def test_json_also_escapes_terminal_controls(text: str) -> None:
    line = JsonFormatter("payment.1").format(record(text))
    assert json.loads(line)["message"] == text
    assert not DANGEROUS.search(line)


@given(st.floats(min_value=0, max_value=4e9))
def test_a_time_is_formatted_as_by_the_standard_library(seconds: float) -> None:
    assert timestamp(seconds) == datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@settings(deadline=None)
@given(st.text(), st.from_regex(r"[a-z_]{1,9}\.[0-9]{1,2}", fullmatch=True))
def test_a_line_of_json_is_written_as_the_standard_library_does(text: str, slot: str) -> None:
    data = {"service": slot.partition(".")[0], "slot": slot, "message": text, "order": text}
    expected = json.dumps({"time": "1970-01-01T00:00:01.500+00:00", "level": "info", **data}, ensure_ascii=False)
    found = json_record(1.5, "info", slot, text, order=text)
    assert found == escaped_json(expected)


# Writing the lines.


def test_a_record_is_in_the_pipe_before_the_call_that_made_it_returns() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as end, open(writer, "wb"):
        handler = DescriptorHandler(writer, "ascii", "backslashreplace")
        handler.handle(record("paid 5 \u20ac"))
        written = time_of(os.read(end.fileno(), 100))
    assert written is not None
    assert written[1] == b"paid 5 \\u20ac\n"


def test_a_record_that_a_pipe_accepts_in_pieces_is_not_mixed_with_another() -> None:
    reader, writer = os.pipe()
    long = "x" * (20 * select.PIPE_BUF)
    with open(reader, "rb") as end:
        with open(writer, "wb"):
            handler = DescriptorHandler(writer, "utf-8", "backslashreplace")
            messages = [long, *["short"] * 50]
            threads = [threading.Thread(target=handler.handle, args=(record(one),)) for one in messages]
            threads[0].start()
            assert select.select([end], [], [], TIMEOUT)[0]
            for thread in threads[1:]:
                thread.start()
            # Nothing is read yet: the long record fills the pipe, and its rest waits for room.
            lines = [end.readline() for _ in messages]
            for thread in threads:
                thread.join(TIMEOUT)
        assert end.read() == b""
    texts = [found[1] for line in lines if (found := time_of(line)) is not None]
    assert sorted(texts) == sorted(f"{one}\n".encode() for one in messages)


def test_a_record_that_cannot_be_written_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb"):
        DescriptorHandler(writer, "utf-8", "strict").handle(record("hello"))
    assert "BrokenPipeError" in capsys.readouterr().err


@pytest.fixture
def _root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    shown = {name: getattr(logging, name) for name in ("logThreads", "logProcesses", "logMultiprocessing", "_srcfile")}
    levels = {name: logging.getLogger(name).level for name in ("runner", "service", "service.payment")}
    yield
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)
    for name, value in shown.items():
        setattr(logging, name, value)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize(
    ("level", "own", "library"),
    [
        ("debug", ["debug", "info", "warning"], ["info", "warning"]),
        ("info", ["info", "warning"], ["info", "warning"]),
        ("warning", ["warning"], ["warning"]),
        ("error", [], []),
    ],
)
def test_a_process_logs_from_the_chosen_level_on_and_libraries_never_log_details(
    level: str, own: list[str], library: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    log = set_up("payment.1", "json", level)
    for name in ("debug", "info", "warning"):
        getattr(log, name)("own")
        getattr(logging.getLogger("library"), name)("library")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines if line["message"] == "own"] == own
    assert [line["level"] for line in lines if line["message"] == "library"] == library


@pytest.mark.parametrize(
    "line",
    [
        b"", b"hello", b"\x1e", b"\x1e1700000000.123456", b"\x1eyesterday, at noon! x", b"\x1e1700000000,123456 x",
        # Texts that Python accepts as numbers, and that are no dates.
        b"\x1e" + b"nan".ljust(17) + b" x", b"\x1e" + b"inf".ljust(17) + b" x", b"\x1e" + b"1e300".ljust(17) + b" x",
        b"\x1e-700000000.123456 x", b"\x1e17_000_000.123456 x", b"\x1e99999999999999999 x",
    ],
)  # fmt: skip
def test_a_line_without_a_time_is_unchanged(line: bytes) -> None:
    assert time_of(line) is None


def test_the_largest_time_of_a_line_is_a_date() -> None:
    found = time_of(b"\x1e9999999999.999999 x")
    assert found is not None
    assert timestamp(found[0]).startswith("2286-11-20T")
    assert "| x" in TextForm(colour=False, width=8)(Line(found[0], "payment.1", found[1]))


def test_each_line_of_a_text_gets_the_time() -> None:
    first, second = timed(1_700_000_000.25, "one\ntwo").encode().split(b"\n")
    assert time_of(first) == (1_700_000_000.25, b"one")
    assert time_of(second) == (1_700_000_000.25, b"two")


@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_logger_of_a_process_uses_the_chosen_form(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = set_up("payment.1", log_format)
    assert log.name == "service.payment"
    log.info("one")
    logging.getLogger("library").warning("two")
    logging.getLogger("library").debug("three")
    sys.stderr.flush()
    lines = capsys.readouterr().err.splitlines()
    if log_format == "json":
        assert [json.loads(line)["message"] for line in lines] == ["one", "two"]
    else:
        assert lines == ["one", "WARNING: two"]


def test_each_line_of_a_record_has_the_form_of_a_line() -> None:
    record = logging.makeLogRecord({"msg": "e-mail", "levelno": logging.INFO, "levelname": "INFO", "created": 1.5})
    record.lines, record.order = ["  | dear\x1b", "  | Alice"], "o1"
    assert TextFormatter().format(record) == "e-mail\n  | dear\\x1b\n  | Alice"
    written = [json.loads(line) for line in JsonFormatter("notification.1").format(record).split("\n")]
    assert [line["message"] for line in written] == ["e-mail", "  | dear\x1b", "  | Alice"]
    assert {(line["order"], line["slot"]) for line in written} == {("o1", "notification.1")}
