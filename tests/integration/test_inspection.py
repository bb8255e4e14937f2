"""Plugins are checked in a separate process, so the check completes whatever their code does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config.project import load_project
from runner.errors import ConfigError, PluginError
from runner.inspection import inspector as remote
from runner.inspection.checked_project import check_plugins, checked_project

ROOT = Path(__file__).parent.parent.parent
HANDLE = "\nfrom runner import hookimpl\n\n@hookimpl\ndef handle(message):\n    return None\n"
CONFIG = "services:\n  stock:\n    consumes: [orders]\n"
Check = Callable[..., None]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Return a function that checks a project with the one plugin ``stock``."""

    def check_text(text: str, config: str = CONFIG) -> None:
        (tmp_path / "plugins").mkdir()
        (tmp_path / "plugins" / "stock.py").write_text(text)
        (tmp_path / "topology.yaml").write_text("queues: {orders: {}}\n")
        (tmp_path / "config.yaml").write_text(config)
        project = load_project(tmp_path, {})
        check_plugins(project)
        project.raise_faults()

    return check_text


def test_the_shipped_project_has_no_errors() -> None:
    project, objects = checked_project(ROOT)
    assert set(project.config.services) == {"order_api", "payment", "notification", "audit", "dashboard"}
    names = {queue.name for queue in objects.queues}
    assert {"payment.order.created.dlq", "payment.order.created.retry.1s"} <= names


def test_a_project_without_services_needs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    (tmp_path / "topology.yaml").write_text("")
    (tmp_path / "config.yaml").write_text("")
    check_plugins(load_project(tmp_path, {}))


def test_a_project_below_the_current_folder_is_checked(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(HANDLE)
    monkeypatch.chdir(tmp_path.parent)
    project = load_project(Path(tmp_path.name), {})
    check_plugins(project)
    project.raise_faults()


def test_a_plugin_is_not_imported_into_the_process_that_asks(check: Check) -> None:
    check(HANDLE)
    assert "fastcommerce_plugins.stock" not in sys.modules


@pytest.mark.parametrize(
    "text",
    [
        "print('hello')",
        "print('{}')",
        "import sys\nsys.stdout.write('no line end')",
        "import os\nos.write(1, b'raw\\xff')",
        "import atexit\natexit.register(print, 'goodbye')",
        "import sys\nsys.stdin.read()",
    ],
    ids=["line", "json", "unfinished", "raw", "at exit", "stdin"],
)
def test_a_plugin_may_print_while_it_is_imported(check: Check, text: str) -> None:
    check(text + HANDLE)


def test_a_plugin_that_kills_the_process_is_reported_with_the_reason(check: Check) -> None:
    with pytest.raises((PluginError, ConfigError), match="exit -6"):
        check("import os\nos.abort()\n" + HANDLE)


def test_a_plugin_that_hangs_is_reported_after_a_timeout(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", 6)
    with pytest.raises(ConfigError, match="plugin 'stock': the import took over 6 s; move slow code from the module"):
        check("import threading\nthreading.Event().wait()\n" + HANDLE)


def test_the_error_for_an_option_never_contains_the_value_of_a_variable(check: Check) -> None:
    options = "from pydantic import BaseModel\nclass Options(BaseModel):\n    size: int = 1\n    key: str = ''\n"
    config = CONFIG + '    options: {size: "${KEY:-hunter2}", other: "${KEY:-hunter2}"}\n'
    with pytest.raises(ConfigError) as caught:
        check(options + HANDLE, config)
    assert caught.value.faults[0] == (
        "config.yaml:4: services.stock.options.other: unknown key 'other'; allowed: key, size"
    )
    assert "not a whole number, '${KEY:-hunter2}'; allowed: a whole number" in caught.value.faults[1]


def test_options_for_a_plugin_without_options_are_unknown(check: Check) -> None:
    with pytest.raises(ConfigError) as caught:
        check(HANDLE, CONFIG + "    options: {size: 1}\n")
    assert caught.value.faults == ["config.yaml:4: services.stock.options.size: unknown key 'size'; none is defined"]


def test_two_services_can_share_a_plugin_and_errors_name_the_right_service(check: Check) -> None:
    config = CONFIG + "  store:\n    plugin: stock\n    consumes: [orders]\n    options: {a: 1}\n"
    with pytest.raises(ConfigError) as caught:
        check(HANDLE, config)
    assert caught.value.faults == ["config.yaml:7: services.store.options.a: unknown key 'a'; none is defined"]


def test_a_plugin_that_kills_the_process_hides_no_other_error(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "stock.py").write_text("import os\nos.abort()\n")
    (tmp_path / "topology.yaml").write_text("queues: {orders: {durabel: true}}\n")
    (tmp_path / "config.yaml").write_text(CONFIG)
    with pytest.raises((PluginError, ConfigError)) as caught:
        checked_project(tmp_path)
    assert "topology.yaml:1: queues.orders.durabel: unknown key 'durabel'" in str(caught.value)
    assert "exit -6" in str(caught.value)
