"""Discovery, loading and validation of plugins from a project and from installed packages."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy
from pydantic import BaseModel, ConfigDict

from runner.config.error_detail import one_of
from runner.contract import OwnedTables, Tables
from runner.errors import PluginError
from runner.hooks import PROJECT, Hooks

#: The entry point group for plugins in installed packages.
ENTRY_POINTS = "fastcommerce.plugins"
FOLDER = "plugins"
_PACKAGE = "fastcommerce_plugins"


def revision_of(name: str, folder: Path) -> str:
    """Return a digest of the contents of a plugin's files in the project folder."""
    root = folder / FOLDER
    digest = hashlib.sha256()
    for path in [root / f"{name}.py", *sorted((root / name).rglob("*"))]:
        # If an editor is replacing a file, the digest changes again as soon as the new file is complete.
        with contextlib.suppress(OSError):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class NoOptions(BaseModel):
    """The options of a plugin that defines no ``Options``."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin."""

    name: str
    options: type[BaseModel]
    #: The names of the hooks that the plugin implements.
    implements: frozenset[str]
    #: The hooks as functions with keyword arguments. pluggy passes only the arguments that a hook declares.
    hook: Any


def plugin_names(folder: Path) -> set[str]:
    """Return the names of all plugins in the project's ``plugins`` folder and in installed packages."""
    found = {entry.name for entry in metadata.entry_points(group=ENTRY_POINTS)}
    for path in (folder / FOLDER).glob("*"):
        if path.name.startswith(("_", ".")):
            continue
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            found.add(path.stem)
    return found


def load_plugin(name: str, folder: Path) -> Plugin:
    """Import and check a plugin. Raises PluginError, with a remedy, if the plugin cannot be used."""
    module = _import(name, folder)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    try:
        manager.register(module, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"plugin {name!r}: {_explain(error)}") from None
    callers = manager.get_hookcallers(manager.get_plugin(name)) or []
    implements = frozenset(caller.name for caller in callers)
    for caller in callers:
        for implementation in caller.get_hookimpls():
            if (problem := _hook_problem(implementation.function)) is not None:
                raise PluginError(f"plugin {name!r}: hook {caller.name!r} {problem}")
    if not implements & {"handle", "run"}:
        raise PluginError(
            f"plugin {name!r}: implements neither 'handle' nor 'run'; decorate one of these functions with @hookimpl"
        )
    options = getattr(module, "Options", NoOptions)
    if not (inspect.isclass(options) and issubclass(options, BaseModel)):
        raise PluginError(
            f"plugin {name!r}: Options is not a pydantic model, {options!r}; allowed: class Options(BaseModel)"
        )
    return Plugin(name, options, implements, manager.hook)


def owned_tables(plugin: Plugin, options: Any, *, inbox: bool) -> OwnedTables | None:
    """Return the tables of a plugin, or None if it has no tables.

    Raises PluginError if the ``tables`` hook returns anything other than ``Tables`` or None.
    """
    tables = plugin.hook.tables(options=options, inbox=inbox) if "tables" in plugin.implements else None
    if tables is None:
        return None
    if not isinstance(tables, Tables):
        raise PluginError(f"plugin {plugin.name!r}: tables: returned {tables!r}; allowed: Tables(metadata), or None")
    from sqlalchemy import MetaData  # imported here, because most plugins have no tables

    if not isinstance(tables.metadata, MetaData):
        text = f"metadata is {tables.metadata!r}; allowed: a MetaData with the plugin's tables"
        raise PluginError(f"plugin {plugin.name!r}: tables: {text}")
    steps: object = tables.steps
    if not isinstance(steps, list | tuple) or not all(callable(step) for step in steps):
        text = f"steps is {steps!r}; allowed: a list of functions, each with one argument, Alembic's operations"
        raise PluginError(f"plugin {plugin.name!r}: tables: {text}")
    return OwnedTables(plugin.name, tables)


def _hook_problem(function: Any) -> str | None:
    """Return an error text if a hook is a coroutine or generator function. Otherwise return None."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "is declared with 'async def'; use 'def', because hooks run in threads"
    if inspect.isgeneratorfunction(function):
        return "contains 'yield'; use 'return', with a list for several events"
    return None


def _explain(error: pluggy.PluginValidationError) -> str:
    text = " ".join(str(error).split())
    if text.startswith("unknown hook"):
        unknown = text.split("'")[1]
        hooks = [name for name in vars(Hooks) if not name.startswith("_")]
        return f"unknown hook {unknown!r}; {one_of(unknown, hooks)}"
    wrong = re.search(r"for hook '(\w+)'.*Argument\(s\) \{'(\w+)'", text)
    if wrong is not None:
        allowed = [name for name in inspect.signature(getattr(Hooks, wrong[1])).parameters if name != "self"]
        return f"hook {wrong[1]!r} takes no argument {wrong[2]!r}; {one_of(wrong[2], allowed)}"
    return text


def _import(name: str, folder: Path) -> ModuleType:
    for path in (folder / FOLDER / f"{name}.py", folder / FOLDER / name / "__init__.py"):
        if path.is_file():
            return _import_file(name, path, folder)
    entries = list(metadata.entry_points(group=ENTRY_POINTS, name=name))
    if len(entries) > 1:
        packages = ", ".join(sorted(entry.dist.name for entry in entries if entry.dist is not None))
        raise PluginError(
            f"plugin {name!r}: several installed packages contain it, {packages}; allowed: one package,"
            f" or a file in {FOLDER}/"
        )
    for entry in entries:
        try:
            module = entry.load()
        except (Exception, SystemExit) as error:
            raise PluginError(_import_problem(name, error, None)) from error
        if isinstance(module, ModuleType):
            return module
        raise PluginError(f"plugin {name!r}: entry point {entry.value!r} is not a module; allowed: a module name")
    raise PluginError(f"unknown plugin {name!r}; {one_of(name, plugin_names(folder))}")


def _import_file(name: str, path: Path, folder: Path) -> ModuleType:
    is_package = path.name == "__init__.py"
    full_name = f"{_PACKAGE}.{name}"
    if _PACKAGE not in sys.modules:
        sys.modules[_PACKAGE] = ModuleType(_PACKAGE)
    spec = importlib.util.spec_from_file_location(
        full_name, path, submodule_search_locations=[str(path.parent)] if is_package else None
    )
    if spec is None or spec.loader is None:
        raise PluginError(
            f"plugin {name!r}: {path.relative_to(folder)} is not a Python file; allowed: NAME.py or a package"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[full_name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[full_name]
        raise PluginError(_import_problem(name, error, folder / FOLDER)) from error
    return module


def _import_problem(name: str, error: BaseException, folder: Path | None) -> str:
    if isinstance(error, SyntaxError):
        return f"plugin {name!r}: {error.filename}:{error.lineno}: {error.msg}; fix the file"
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    for frame in reversed(frames):
        if folder is not None and Path(frame.filename).is_relative_to(folder):
            where = f"{frame.filename}:{frame.lineno}: "
            break
    remedy = "install it" if isinstance(error, ModuleNotFoundError) else "fix the file"
    return f"plugin {name!r}: {where}cannot be imported, {type(error).__name__}: {error}; {remedy}"
