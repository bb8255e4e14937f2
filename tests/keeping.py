"""Stores for tests: one that keeps nothing, and real databases."""

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

#: What the handler of a service without an inbox gets.
NOTHING = DeliveryStore(Storage("sqlite:///nowhere/never-opened.db", Path(), lambda _: None), inbox=False)


def kept(folder: Path) -> tuple[Storage, DeliveryStore]:
    """What the handler of a service with an inbox gets, on a SQLite file in ``folder``."""
    storage = Storage("sqlite:///kept.db", folder, lambda _: None)
    make_tables(storage.get())
    return storage, DeliveryStore(storage, inbox=True)


def make_tables(store: Store) -> Store:
    """Make the tables of the shipped plugins, as their services do when they start; returns the store."""
    for plugin, table in (("payment", CHARGES), ("notification", EMAILS), ("order_api", orders())):
        migrate(store.engine, OwnedTables(plugin, Tables(table.metadata)))
    return store
