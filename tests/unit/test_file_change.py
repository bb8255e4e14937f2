"""The differences between the running files and the edited files, in words."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from runner.config.project import load_project
from runner.dashboard.file_change import changes_between
from runner.preparation.applied_files import FOLDER, keep_applied, load_applied
from runner.topology.compile import compile_topology
from tests.running import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose files are running."""
    for name in ("topology.yaml", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    keep_applied(load_project(tmp_path))
    return tmp_path


def edit(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


def changes(folder: Path) -> list[str]:
    old, new = load_applied(folder), load_project(folder)
    assert old is not None
    before, after = (compile_topology(one.topology, one.consumed) for one in (old, new))
    return [
        f"{one.sign} {one.kind} {one.name} {one.text} ({one.place})" for one in changes_between(old, new, before, after)
    ]


def test_unchanged_files_and_comments_are_no_difference(folder: Path) -> None:
    assert changes(folder) == []
    edit(folder, "topology.yaml", "defaults:", "# a comment\ndefaults:")
    assert changes(folder) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("topology.yaml", "    retry: [1s, 5s, 30s] #", "    retry: [1s, 5s] #",
         ["~ queue payment.order.created retry 1s 5s 30s → 1s 5s (topology.yaml:11)"]),
        ("topology.yaml", 'payments.topic: ["payment.*"]', 'payments.topic: ["payment.#"]',
         ["+ binding payments.topic -(payment.#)-> notification.payment.events is new (topology.yaml:18)",
          "- binding payments.topic -(payment.*)-> notification.payment.events is removed (topology.yaml:18)"]),
        ("topology.yaml", "    retry: [1s, 5s, 30s] #", "    retry: [1s, 5s, 30s]\n    dead_letter: lost #",
         ["~ queue payment.order.created dead letters not set → lost (topology.yaml:11)"]),
        ("topology.yaml", "unrouted: {type: fanout}", "unrouted: {type: fanout, internal: true}",
         ["~ exchange unrouted internal not set → true (topology.yaml:8)"]),
        ("topology.yaml", "  unrouted.all:",
         "  reports: {bind: {orders.topic: [order.created]}, retry: [1s]}\n  unrouted.all:",
         ["+ queue reports is new, quorum, retry 1s (topology.yaml:23)",
          "+ binding orders.topic -(order.created)-> reports is new (topology.yaml:23)"]),
        ("topology.yaml", "  unrouted.all:", "  unrouted.kept:\n    formerly: unrouted.all",
         ["> queue unrouted.all is renamed to unrouted.kept (topology.yaml:24)"]),
        ("topology.yaml", '  unrouted.all: # messages without a matching binding\n    bind: {unrouted: [""]}\n', "",
         ["- queue unrouted.all is removed (topology.yaml:23)"]),
        ("config.yaml", "latency: 50ms", "latency: 2s",
         ["~ service payment options.latency 50ms → 2s (config.yaml:13)"]),
        ("config.yaml", "  audit:\n    consumes: [audit.events]\n", "",
         ["- service audit is removed (config.yaml:23)"]),
        ("config.yaml", "  audit:\n", "  second:\n    consumes: [audit.events]\n  audit:\n",
         ["+ service second is new; consumes audit.events (config.yaml:23)"]),
        ("config.yaml", "autostart: true", "autostart: false",
         ["~ setting broker autostart true → false; a reload cannot apply this change; restart the supervisor"
          " (config.yaml:3)"]),
        ("config.yaml", "port: 8080,", 'port: 8081, allowed_hosts: ["*"],',
         ["~ service dashboard options.port 8080 → 8081; options.allowed_hosts * (config.yaml:25)"]),
    ],
)  # fmt: skip
def test_each_edit_is_described_with_its_line(folder: Path, file: str, old: str, new: str, said: list[str]) -> None:
    edit(folder, file, old, new)
    assert changes(folder) == said


def test_secrets_are_not_shown(folder: Path) -> None:
    edit(folder, "config.yaml", "${DASHBOARD_TOKEN:-}", "a-secret-of-16-characters")
    edit(
        folder,
        "config.yaml",
        "${DATABASE_URL:-sqlite:///var/fastcommerce.db}",
        "postgresql://shop:secret@127.0.0.1/shop",
    )
    found = changes(folder)
    assert "secret" not in " ".join(found)
    assert found == [
        "~ setting store url ${DATABASE_URL:-sqlite:///var/fastcommerce.db} → postgresql://shop:•••@127.0.0.1/shop"
        " (config.yaml:6)",
        "~ service dashboard options.token is changed (config.yaml:25)",
    ]


def test_the_copies_of_the_running_files_are_private_and_a_missing_copy_is_none(folder: Path) -> None:
    copies = folder / "var" / FOLDER
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in copies.iterdir()} == {
        "topology.yaml": "0o600", "config.yaml": "0o600",
    }  # fmt: skip
    applied = load_applied(folder)
    assert applied is not None
    assert applied.folder == folder
    (copies / "config.yaml").unlink()
    assert load_applied(folder) is None


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_copy_that_cannot_be_written_leaves_no_outdated_copy(folder: Path) -> None:
    (folder / "var" / FOLDER / "config.yaml.new").symlink_to("/dev/full")
    keep_applied(load_project(folder))
    assert load_applied(folder) is None
