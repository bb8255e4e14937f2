"""Foreign text never controls a terminal and never reorders the text beside it."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from plugins.notification.notifier import LogTransport
from runner.cli.main import main
from runner.cli.terminal import Guarded, guarded
from runner.escape import escaped, escaped_json, escaped_yaml, json_text, one_line
from runner.ledger.ledger_command import _show_missing
from runner.supervisor.output.line import Line, TextForm, json_form
from runner.topology.write import write_flow

#: Controls, bidirectional and other format characters, line ends, and characters that no font shows.
HARMFUL = [
    *("\x00", "\x07", "\x08", "\x0b", "\r", "\x1b[2J", "\x1b]0;a\x07", "\x7f", "\x85", "\x9b2J", "\x9d"),
    *("\u200b", "\u200d", "\u200e", "\u200f", "\u061c", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e"),
    *("\u2066", "\u2067", "\u2068", "\u2069", "\u00ad", "\u2060", "\u2028", "\u2029", "\ufeff", "\ufff9"),
    *("\U000e0001", "\U000e0041", "\U0001d173", "\ud800", "\udc80", "\ue000", "\U0010ffff"),
]
HARMLESS = ["Zoë 5 €", "юля@пример.бел", "日本\u3000語", "1\u00a0000,00", "\U0001f600", "e\u0301", "שלום"]


def is_fit(text: str) -> bool:
    return all(unicodedata.category(one) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for one in text)


@pytest.mark.parametrize("text", HARMFUL)
def test_terminal_controls_are_escaped_in_each_kind_of_text(text: str) -> None:
    whole = f"a{text}b"
    for make in (escaped, one_line, escaped_json, escaped_yaml):
        assert is_fit(make(whole)), make
        assert make(make(whole)) == make(whole), make
    assert json.loads(escaped_json(json.dumps(whole, ensure_ascii=False))) == whole
    if not any("\ud800" <= one <= "\udfff" for one in text):  # YAML has no half pairs
        assert yaml.safe_load(write_flow(whole)) == whole
        assert is_fit(write_flow(whole))


@pytest.mark.parametrize("text", HARMLESS)
def test_printable_text_is_unchanged(text: str) -> None:
    assert {make(text) for make in (escaped, one_line, escaped_json, escaped_yaml)} == {text}


@given(st.text())
def test_an_escaped_text_is_safe_for_a_terminal_and_has_the_same_meaning(text: str) -> None:
    assert is_fit(one_line(text))
    assert is_fit(escaped(text).replace("\t", "").replace("\n", ""))
    assert json.loads(escaped_json(json.dumps([text], ensure_ascii=False))) == [text]
    assert json.loads(json_text({text: text})) == {text: text}


@pytest.mark.parametrize("text", HARMFUL)
def test_a_log_line_of_any_source_is_safe_for_a_terminal(text: str) -> None:
    raw = f"a{text}b".encode("utf-8", "surrogatepass")
    form = TextForm(colour=False, width=4)
    assert is_fit(form(Line(0.0, "a.1", raw.replace(b"\n", b""))))
    assert is_fit(form(Line(0.0, "runner", f"a.1 RUNNING: {text}", "info")))
    own = json.dumps({"slot": "a.1", "message": text}, ensure_ascii=False).encode("utf-8", "replace")
    for line in (json_form(Line(0.0, "a.1", own)), json_form(Line(0.0, "a.1", raw))):
        assert is_fit(line)
        assert isinstance(json.loads(line), dict)


@pytest.mark.parametrize("text", [one for one in HARMFUL if "\x1b" not in one])
def test_any_output_of_a_command_is_safe_for_a_terminal(text: str) -> None:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        with guarded():
            click.echo(f"order a{text}b")
            click.echo(json.dumps({"id": text}, ensure_ascii=False))
            print(f"a{text}b")
    first, second, third = out.getvalue().split("\n")[:3]
    assert is_fit(first + third)
    assert json.loads(second) == {"id": text}


def test_only_our_own_colours_and_redrawing_pass_the_guard() -> None:
    stream = io.StringIO()
    guard = Guarded(stream)
    ours = [click.style("red", fg="red", bold=True), "\r\x1b[K", "\x1b[H\x1b[Jall", "a\tb"]
    for text in ours:
        guard.write(text)
    assert stream.getvalue() == "".join(ours)
    for text in ("a\rb", "a\x1b[2Jb", "a\x1b[Hb", "a\x1b[Kb", "\x1b[1Aa", "\x1b]0;x\x07", "\x1b[31;\x1b"):
        stream.truncate(0)
        stream.seek(0)
        guard.write(text)
        assert is_fit(stream.getvalue())


def test_a_character_that_a_terminal_lacks_does_not_lose_the_line() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Guarded(stream).write("Zoë\n")
    stream.flush()
    assert raw.getvalue() == b"Zo\\xeb\n"


@pytest.mark.parametrize(
    "command",
    [["check"], ["lint"], ["route", "e", "HERE"], ["status", "HERE"], ["events", "--order", "HERE"], ["HERE"]],
)
def test_a_command_shows_no_terminal_controls(tmp_path: Path, command: list[str]) -> None:
    text = "\u202e\x9b2J\u2066\x1b[2J\U000e0001"
    quoted = json.dumps(f"a{text}b")
    (tmp_path / "topology.yaml").write_text(
        f"exchanges: {{{quoted}: {{typ: topic}}, e: {{}}}}\nqueues: {{{quoted}: {{}}}}\n"
    )
    (tmp_path / "config.yaml").write_text(f"services: {{{quoted}: {{consumes: [{quoted}]}}}}\n")
    words = [word.replace("HERE", f"a{text}b") for word in command]
    done = CliRunner().invoke(main, ["--project", str(tmp_path), *words])
    assert done.output
    assert is_fit(done.output.replace("\n", "")), ascii(done.output)


def test_an_e_mail_in_the_log_is_safe_for_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    from plugins.notification.mail import Email

    caplog.set_level("DEBUG")
    text = "".join(HARMFUL)
    mail = Email("shop@example.com", "a@example.com", text, text, "", "m")
    LogTransport(logging.getLogger("test.escape")).send(mail, order=text)
    (record,) = caplog.records
    assert is_fit("".join([record.getMessage(), record.order, *record.lines]))  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [0, 3])
def test_the_progress_of_the_ledger_is_one_line_that_replaces_itself(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", Guarded(terminal))
    _show_missing(count)
    begin, dim, text = terminal.getvalue().partition("\x1b[2m")
    assert (begin, dim) == ("\r\x1b[K", "\x1b[2m")
    assert text.removesuffix("\x1b[0m").endswith("checking again …")
    assert text.removesuffix("\x1b[0m").isprintable()
