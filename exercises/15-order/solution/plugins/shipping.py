"""Pack a parcel for each new order, and stop the parcel if the customer cancels the order."""

import logging
import time

from pydantic import BaseModel
from sqlalchemy import Column, Connection, MetaData, Table, Text, update

from runner import Context, Duration, Message, MessageStore, Tables, TransactionResult, hookimpl, insert_new

metadata = MetaData()
parcels = Table("parcels", metadata, Column("order_id", Text, primary_key=True), Column("state", Text))


class Options(BaseModel):
    """The options of the plugin."""

    packing: Duration = 0.15


@hookimpl
def tables() -> Tables:
    """Declare the table of parcels, which all processes of the service share."""
    return Tables(metadata)


@hookimpl
def start(context: Context) -> logging.Logger:
    """Return the log."""
    return context.log


@hookimpl
def handle(message: Message, options: Options, resources: logging.Logger, store: MessageStore) -> TransactionResult:
    """Handle one event of an order."""
    order = message.json()["order_id"]
    if message.type == "order.created":
        time.sleep(options.packing)

    def write(connection: Connection) -> None:
        if message.type == "order.created":
            insert_new(connection, parcels, {"order_id": order, "state": "packed"})
            text = "parcel packed"
        elif connection.execute(update(parcels).where(parcels.c.order_id == order).values(state="stopped")).rowcount:
            text = "cancelled, parcel stopped"
        else:
            text = "cancelled, but there is no parcel to stop"
        resources.info("order %s: %s", order, text, extra={"order": order})

    return store.transact(write)
