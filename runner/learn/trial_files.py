"""The files of a trial: the learner's files, with an address, a port and a database of the trial's own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from runner.config.document import Document
from runner.config.project import CONFIG_FILE, TOPOLOGY_FILE
from runner.invocation import SOURCE
from runner.learn.submitted_file import file_names
from runner.plugins import FOLDER

#: The service and the queue that record events and attempts if the learner's files have none.
AUDIT, AUDIT_QUEUE = "audit", "audit.events"
#: The exchange types whose messages ``audit`` can record without an effect on other bindings.
_KEYS = {"topic": "#", "fanout": ""}


class TrialFiles:
    """The project folder of one trial."""

    def __init__(self, folder: Path, url: str, port: int, *, records_events: bool, adds_audit: bool = True) -> None:
        """``url`` is the address of the broker, and ``port`` the port of the order API.

        If ``records_events`` is true, ``audit`` gets each event, even if no other queue is bound to get this event.
        If ``adds_audit`` is false, the learner's files must contain ``audit``.
        """
        self.folder = folder
        self._url, self._port = url, port
        self._records_events, self._adds_audit = records_events, adds_audit
        #: The options of ``payment`` that replace the learner's options.
        self.gateway: dict[str, Any] = {}

    def write(self, source: Path) -> None:
        """Write the files of ``source``, which must have no configuration errors."""
        config, topology = (self._data(source / name) for name in (CONFIG_FILE, TOPOLOGY_FILE))
        self._adapt(config, topology)
        self._write_plugins(source)
        # A reload reads both files, so a service never sees a topology without its queues.
        for name, data in ((TOPOLOGY_FILE, topology), (CONFIG_FILE, config)):
            # The variables are already expanded.
            text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True).replace("$", "$$")
            (self.folder / name).write_text(text, "utf-8")

    @staticmethod
    def _data(path: Path) -> dict[str, Any]:
        return Document(path.name, path.read_text("utf-8")).data

    def _adapt(self, config: dict[str, Any], topology: dict[str, Any]) -> None:
        config["broker"] = {"url": self._url, "autostart": False}
        config["store"] = {"url": "sqlite:///var/fastcommerce.db"}
        config["fault_injection"] = True
        services = config.setdefault("services", {})
        if "order_api" in services:
            _options(services, "order_api").update(host="127.0.0.1", port=self._port)
        if "payment" in services:
            _options(services, "payment").update(self.gateway)
        if self._adds_audit and not any(self._is_audit(name, one) for name, one in services.items()):
            services[AUDIT] = {"consumes": [AUDIT_QUEUE]}
            topology.setdefault("queues", {})[AUDIT_QUEUE] = {"bind": self._audited(topology)}

    def _audited(self, topology: Mapping[str, Any]) -> dict[str, list[str]]:
        if not self._records_events:
            # A binding would make every message routable, and so hide unroutable messages.
            return {}
        types = {name: (one or {}).get("type", "topic") for name, one in (topology.get("exchanges") or {}).items()}
        return {name: [_KEYS[kind]] for name, kind in types.items() if kind in _KEYS}

    @staticmethod
    def _is_audit(name: str, service: Mapping[str, Any] | None) -> bool:
        return bool((service or {}).get("plugin", name) == AUDIT)

    def _write_plugins(self, source: Path) -> None:
        target = self.folder / FOLDER
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        # An installation has the shipped plugins as a package. Only a checkout has them in a folder.
        if not (SOURCE / "runner" / "shipped_plugins").exists():
            # The compiled code is copied too, because it is valid for a file with the same time and size.
            shutil.copytree(SOURCE / FOLDER, target, dirs_exist_ok=True)
        # Only the files that were checked are copied. Compiled code of a learner could replace any plugin unseen.
        for name in file_names(source):
            if Path(name).parts[0] == FOLDER:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, self.folder / name)


def _options(services: dict[str, Any], name: str) -> dict[str, Any]:
    settings = services[name] = services[name] or {}
    options = settings["options"] = settings.get("options") or {}
    return options
