"""The record of each plugin's tables and completed steps, and the order statuses.

The tables ``charges``, ``emails`` and ``orders`` of the first schema now belong to plugins. An empty table is dropped,
and its plugin recreates the table. A table with rows remains unchanged.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
STATUSES = [("order.created", "accepted"), ("payment.success", "paid"), ("payment.failed", "declined")]


def upgrade() -> None:
    """Create the two tables and drop empty plugin tables."""
    op.create_table(
        "plugin_tables",
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("plugin"),
    )
    statuses = op.create_table(
        "order_statuses",
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_type"),
    )
    connection = op.get_bind()
    if connection.scalar(sa.select(sa.exists().select_from(sa.table("events")))):
        # These order statuses were fixed before plugins declared statuses. The recording service replaces the rows at
        # its next start.
        op.bulk_insert(statuses, [{"event_type": event, "status": status} for event, status in STATUSES])
    existing = sa.inspect(connection).get_table_names()
    for name in ("charges", "emails", "orders"):
        if name in existing and connection.dialect.name == "postgresql":
            # A process of an earlier version may be about to commit the table's first row.
            op.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
        if name in existing and not connection.scalar(sa.select(sa.exists().select_from(sa.table(name)))):
            op.drop_table(name)
