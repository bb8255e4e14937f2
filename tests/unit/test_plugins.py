"""The search for plugins, their import, and their checks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runner.errors import PluginError
from runner.messages import Event, Message
from runner.plugins import ENTRY_POINTS, NoOptions, load_plugin, owned_tables, plugin_names

Write = Callable[..., Path]
HANDLE = "from runner import Event, hookimpl\n\n@hookimpl\ndef handle(message):\n    return Event('done', message.id)\n"


@pytest.fixture(autouse=True)
def _modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("fastcommerce_plugins"):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the entry points of this tree, which exist if it is installed."""
    all_of = metadata.entry_points

    def entry_points(group: str, **names: Any) -> Any:
        return [] if group == ENTRY_POINTS else all_of(group=group, **names)

    monkeypatch.setattr(metadata, "entry_points", entry_points)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str, name: str = "stock.py") -> Path:
        path = tmp_path / "plugins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path

    return write_file


def refusal(folder: Path, name: str = "stock") -> str:
    with pytest.raises(PluginError) as caught:
        load_plugin(name, folder)
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_the_shipped_plugins_load() -> None:
    root = Path(__file__).parent.parent.parent
    assert {"order_api", "payment", "notification"} <= plugin_names(root)
    assert load_plugin("order_api", root).implements == {"contract", "run", "tables"}
    assert load_plugin("payment", root).implements == {"contract", "start", "handle", "tables"}
    assert load_plugin("notification", root).implements == {"contract", "start", "handle", "tables"}


def test_files_and_packages_are_plugins_and_other_files_are_not(write: Write) -> None:
    write("")
    write("", "audit/__init__.py")
    write("", "_private.py")
    write("", ".hidden.py")
    write("", "__pycache__/x.py")
    write("", "templates/readme.txt")
    folder = write("", "notes.txt")
    assert plugin_names(folder) == {"stock", "audit"}


def test_a_project_without_plugins_has_none(tmp_path: Path) -> None:
    assert plugin_names(tmp_path) == set()
    assert refusal(tmp_path) == "unknown plugin 'stock'; none is defined"


def test_a_plugin_is_one_file_with_a_decorated_function(write: Write) -> None:
    plugin = load_plugin("stock", write(HANDLE))
    assert (plugin.name, plugin.implements, plugin.options) == ("stock", frozenset({"handle"}), NoOptions)
    outcome = plugin.hook.handle(message=Message(b"", "q", id="m1"), options=None, resources=None, store=None)
    assert outcome == Event("done", "m1")


def test_a_package_s_modules_import_each_other(write: Write) -> None:
    write("from .words import WORD\n" + HANDLE.replace("'done'", "WORD"), "stock/__init__.py")
    plugin = load_plugin("stock", write("WORD = 'counted'\n", "stock/words.py"))
    outcome = plugin.hook.handle(message=Message(b"", "q", id="m1"), options=None, resources=None, store=None)
    assert outcome == Event("counted", "m1")


def test_each_plugin_is_called_separately(write: Write) -> None:
    write(HANDLE.replace("'done'", "'other'"), "other.py")
    folder = write(HANDLE)
    load_plugin("other", folder)
    outcome = load_plugin("stock", folder).hook.handle(
        message=Message(b"", "q", id="m1"), options=None, resources=None, store=None
    )
    assert outcome == Event("done", "m1")


def test_options_are_the_plugin_s_own_model(write: Write) -> None:
    folder = write("from pydantic import BaseModel\n\nclass Options(BaseModel):\n    size: int = 3\n\n" + HANDLE)
    assert load_plugin("stock", folder).options().model_dump() == {"size": 3}


def test_an_unknown_plugin_is_an_error_that_names_the_known_ones(write: Write) -> None:
    folder = write(HANDLE)
    assert refusal(folder, "stocks") == "unknown plugin 'stocks'; did you mean 'stock'?"
    assert refusal(folder, "xyz") == "unknown plugin 'xyz'; allowed: stock"


def test_a_plugin_without_a_decorated_hook_is_refused(write: Write) -> None:
    text = "plugin 'stock': implements neither 'handle' nor 'run'; decorate one of these functions with @hookimpl"
    assert refusal(write("def handle(message):\n    pass\n")) == text
    assert refusal(write("")) == text
    assert refusal(write(HANDLE.replace("def handle(message)", "def start()").replace("message.id", "1"))) == text


def test_a_mistyped_hook_is_an_error_with_a_suggestion(write: Write) -> None:
    folder = write(HANDLE.replace("def handle", "def handel"))
    assert refusal(folder) == "plugin 'stock': unknown hook 'handel'; did you mean 'handle'?"


def test_a_mistyped_argument_is_an_error_with_a_suggestion(write: Write) -> None:
    folder = write(HANDLE.replace("message", "mesage"))
    assert refusal(folder) == "plugin 'stock': hook 'handle' takes no argument 'mesage'; did you mean 'message'?"


@pytest.mark.parametrize("options", ["{'a': 1}", "dict", "None"])
def test_options_that_are_no_model_are_refused(write: Write, options: str) -> None:
    assert refusal(write(f"Options = {options}\n" + HANDLE)).startswith(
        "plugin 'stock': Options is not a pydantic model, "
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nothing_of_this_name\n", "1: cannot be imported, ModuleNotFoundError: No module named "
         "'nothing_of_this_name'; install it"),
        ("\n1 / 0\n", "2: cannot be imported, ZeroDivisionError: division by zero; fix the file"),
        ("\n\ndef handle(\n", "3: '(' was never closed; fix the file"),
        ("import json\n\njson.loads('{')\n", "3: cannot be imported, JSONDecodeError: Expecting property name"
         " enclosed in double quotes: line 1 column 2 (char 1); fix the file"),
        ("import sys\nsys.exit(3)\n", "2: cannot be imported, SystemExit: 3; fix the file"),
    ],
)  # fmt: skip
def test_a_plugin_that_fails_to_import_is_reported_with_its_line(write: Write, text: str, reason: str) -> None:
    folder = write(text)
    assert refusal(folder) == f"plugin 'stock': {folder}/plugins/stock.py:{reason}"
    assert "fastcommerce_plugins.stock" not in sys.modules


def test_a_failed_import_can_be_repeated_after_the_plugin_is_fixed(write: Write) -> None:
    refusal(write("1 / 0\n"))
    assert load_plugin("stock", write(HANDLE + "# longer, so that no cached file is taken for it\n")).name == "stock"


class _Entry:
    """An entry point of an installed package."""

    def __init__(self, name: str, target: Any) -> None:
        self.name, self.value, self._target = name, "package.module", target

    def load(self) -> Any:
        if isinstance(self._target, Exception):
            raise self._target
        return self._target


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    def install_entry(entry_name: str, target: Any) -> None:
        def entry_points(group: str, name: str = entry_name) -> list[_Entry]:
            return [_Entry(entry_name, target)] if (group, name) == ("fastcommerce.plugins", entry_name) else []

        monkeypatch.setattr(metadata, "entry_points", entry_points)

    return install_entry


def test_an_installed_package_offers_a_plugin(tmp_path: Path, install: Callable[[str, Any], None]) -> None:
    module = ModuleType("package.module")
    exec(HANDLE, module.__dict__)
    install("audit", module)
    assert plugin_names(tmp_path) == {"audit"}
    assert load_plugin("audit", tmp_path).implements == {"handle"}


def test_the_project_s_own_plugin_takes_precedence_over_an_installed_one(
    write: Write, install: Callable[[str, Any], None]
) -> None:
    install("stock", ModuleType("package.module"))
    assert load_plugin("stock", write(HANDLE)).implements == {"handle"}


def test_a_name_that_two_installed_packages_offer_is_refused_unless_the_project_has_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    for package in ("one", "two"):
        information = tmp_path / package / f"{package}-1.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {package}\nVersion: 1\n")
        (information / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nstock = {package}.stock\n")
        monkeypatch.syspath_prepend(information.parent)
    assert refusal(tmp_path) == (
        "plugin 'stock': several installed packages contain it, one, two; allowed: one package, or a file in plugins/"
    )
    assert load_plugin("stock", write(HANDLE)).implements == {"handle"}


def test_an_installed_plugin_that_is_no_module_or_cannot_be_imported_is_refused(
    tmp_path: Path, install: Callable[[str, Any], None]
) -> None:
    install("audit", object())
    assert refusal(tmp_path, "audit") == (
        "plugin 'audit': entry point 'package.module' is not a module; allowed: a module name"
    )
    install("audit", ImportError("no such thing"))
    assert "cannot be imported, ImportError: no such thing; fix the file" in refusal(tmp_path, "audit")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("async def handle(message):\n    return None\n", "hook 'handle' is declared with 'async def'; use 'def'"),
        ("async def handle(message):\n    yield 1\n", "hook 'handle' is declared with 'async def'; use 'def'"),
        (
            "def handle(message):\n    yield Event('done', 1)\n",
            "hook 'handle' contains 'yield'; use 'return'",
        ),
        ("async def start(context):\n    pass\n", "hook 'start' is declared with 'async def'"),
        ("async def contract():\n    pass\n", "hook 'contract' is declared with 'async def'"),
        ("async def stop():\n    pass\n", "hook 'stop' is declared with 'async def'"),
    ],
)
def test_a_hook_that_can_never_work_is_refused_before_the_start(write: Write, source: str, words: str) -> None:
    other = "" if "def handle" in source else "@hookimpl\ndef handle(message):\n    pass\n\n"
    assert words in refusal(write(f"from runner import Event, hookimpl\n\n{other}@hookimpl\n{source}"))


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (
            "[Table('a', MetaData())]",
            "tables: returned [Table('a', MetaData(), schema=None)]; allowed: Tables",
        ),
        (
            "Tables(Table('a', MetaData()))",
            "tables: metadata is Table('a', MetaData(), schema=None); allowed: a MetaData",
        ),
        ("Tables(MetaData)", "tables: metadata is <class 'sqlalchemy.sql.schema.MetaData'>; allowed: a MetaData with"),
        ("Tables(MetaData(), print)", "tables: steps is <built-in function print>; allowed: a list of functions"),
        ("Tables(MetaData(), ['x'])", "tables: steps is ['x']; allowed: a list of functions"),
        ("Tables(MetaData(), None)", "tables: steps is None; allowed: a list of functions"),
        ("Tables(MetaData(), {print})", "tables: steps is {<built-in function print>}; allowed: a list of functions"),
    ],
)
def test_tables_of_another_type_are_refused_with_the_returned_value(write: Write, returned: str, words: str) -> None:
    imports = "from sqlalchemy import MetaData, Table\nfrom runner import Tables\n"
    hook = f"\n\n@hookimpl\ndef tables():\n    return {returned}\n"
    plugin = load_plugin("stock", write(imports + HANDLE + hook))
    with pytest.raises(PluginError) as caught:
        owned_tables(plugin, None, inbox=False)
    assert str(caught.value).startswith(f"plugin 'stock': {words}")


@pytest.mark.parametrize(("former", "name"), [("BrokerAway", "BrokerUnreachable"), ("StoreAway", "StoreUnreachable")])
def test_an_import_of_a_former_name_fails_with_the_new_name(former: str, name: str) -> None:
    with pytest.raises(ImportError, match=rf"^runner: {former} was renamed; import {name}$"):
        exec(f"from runner import {former}", {})
