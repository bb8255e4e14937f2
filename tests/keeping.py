"""Stores for tests: a store for handlers without an inbox, and real databases."""

from __future__ import annotations

from pathlib import Path

from plugins.notification.sent_emails import emails
from plugins.order_api.order_outbox import orders
from plugins.payment import charges
from runner.contract import OwnedTables, Tables
from runner.store.plugin_migration import migrate
from runner.store.process_store import Store
from runner.worker.storage import DeliveryStore, Storage

#: Tables of the shipped plugins.
CHARGES, EMAILS = charges(), emails()

#: The store of a handler whose service has no inbox.
NOTHING = DeliveryStore(Storage("sqlite:///nowhere/never-opened.db", Path(), lambda _: None), inbox=False)


def kept(folder: Path) -> tuple[Storage, DeliveryStore]:
    """Return the store of a handler whose service has an inbox, on a SQLite file in ``folder``."""
    storage = Storage("sqlite:///kept.db", folder, lambda _: None)
    make_tables(storage.get())
    return storage, DeliveryStore(storage, inbox=True)


def make_tables(store: Store) -> Store:
    """Create the tables of the shipped plugins, as their services do at their start. Return the store."""
    for plugin, table in (("payment", CHARGES), ("notification", EMAILS), ("order_api", orders())):
        migrate(store.engine, OwnedTables(plugin, Tables(table.metadata)))
    return store
