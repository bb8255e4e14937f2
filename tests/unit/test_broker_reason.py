"""The reason for a node's exit, read from its logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.broker.folder import Folder
from runner.broker.reason import explain, is_configuration_error, last_line, node_log_size

OLD = "2026-01-01 10:00:00.000000+00:00 [error] <0.9.0> an error of an earlier run\n"
FAILED = """\
2026-01-01 11:00:00.100000+00:00 [info] <0.1.0> starting
2026-01-01 11:00:00.200000+00:00 [error] <0.2.0> Mnesia: ** ERROR **
2026-01-01 11:00:00.200000+00:00 [error] <0.2.0>  ** FATAL ** cannot read schema
2026-01-01 11:00:00.300000+00:00 [error] <0.3.0>
2026-01-01 11:00:00.300000+00:00 [error] <0.3.0> BOOT FAILED
2026-01-01 11:00:00.300000+00:00 [error] <0.3.0> ===========
2026-01-01 11:00:00.300000+00:00 [error] <0.3.0> Error during startup: no_schema
2026-01-01 11:00:00.300000+00:00 [error] <0.3.0>
2026-01-01 11:00:01.000000+00:00 [error] <0.4.0>   crasher:
2026-01-01 11:00:01.000000+00:00 [error] <0.4.0>     heap_size: 2586
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    one = Folder(tmp_path)
    one.make()
    one.node_log.write_text(OLD)
    return one


def _append(folder: Folder, text: str) -> int:
    size = node_log_size(folder)
    with folder.node_log.open("a") as stream:
        stream.write(text)
    return size


def test_a_failed_start_is_reported_in_the_words_of_the_node_without_process_states(folder: Folder):
    offset = _append(folder, FAILED)

    assert explain(folder, offset) == [
        "Mnesia: ** ERROR ** ** FATAL ** cannot read schema",
        "Error during startup: no_schema",
    ]


def test_an_exit_without_an_error_is_reported_with_the_last_lines(folder: Folder):
    offset = _append(folder, "")
    folder.console_log.write_text("Killed by a passing elephant\n")

    assert explain(folder, offset) == ["Killed by a passing elephant"]


def test_a_rotated_log_is_read_from_its_beginning(folder: Folder):
    assert explain(folder, 1_000_000) == ["an error of an earlier run"]


def test_missing_logs_are_no_error(folder: Folder):
    folder.node_log.unlink()

    assert explain(folder, node_log_size(folder)) == []
    assert last_line(folder) == "none"


def test_the_last_line_is_shown_without_its_time(folder: Folder):
    _append(folder, "2026-01-01 11:00:00.1+00:00 [info] <0.1.0> recovering\n2026-01-01 11:00:00.1 [info] <0.1.0> \n")

    assert last_line(folder) == "recovering"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{error,failed_to_prepare_configuration}", True),
        ("{error,failed_to_read_advanced_configuration_file}", True),
        ("{cannot_read_enabled_plugins_file,", True),
        ("{error,eaddrinuse}", False),
    ],
)
def test_files_that_a_person_must_fix_are_distinguished_from_temporary_trouble(line: str, expected: bool):
    assert is_configuration_error(["Error during startup:", line]) is expected
