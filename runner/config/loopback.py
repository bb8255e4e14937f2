"""Faults are injected on this machine alone: what config.yaml names must be here where ``faults`` is true."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, unquote, urlsplit

from runner.address import Address, authority
from runner.config.document import Document
from runner.config.settings import Config

ALLOWED = "allowed: a broker and a database on 127.0.0.1, ::1 or localhost"


def check_faults(config: Config, document: Document) -> None:
    """Note a fault for the broker's and the database's host where they are another machine's and ``faults`` is true."""
    if not config.faults:
        return
    for url in config.broker.url:
        address = Address.of(url)
        if address.loopback is None:
            document.fault(("faults",), f"not with a broker on another machine, {address}; {ALLOWED}")
    stores = [config.store, *(one.store for one in config.services.values() if one.store is not None)]
    for host in dict.fromkeys(host for store in stores for host in _store_hosts(store.url)):
        if not _is_here(host):
            document.fault(("faults",), f"not with a database on another machine, {host!r}; {ALLOWED}")


def _store_hosts(url: str) -> list[str]:
    """The hosts of a database's server; an empty one is a socket of this machine (libpq, connection strings)."""
    if not url.startswith("postgresql"):
        return []
    parts = urlsplit(url)
    named = parse_qs(parts.query).get("host", []) or [unquote(parts.hostname or "")]
    # What no address names libpq takes from its own variables, and PGHOSTADDR even where one does.
    hosts = [host or os.environ.get("PGHOST", "") for host in named]
    return [one for host in [*hosts, os.environ.get("PGHOSTADDR", "")] for one in host.split(",")]


def _is_here(host: str) -> bool:
    return not host or host.startswith(("/", "@")) or Address.of(f"amqp://{authority(host, 1)}").loopback is not None
