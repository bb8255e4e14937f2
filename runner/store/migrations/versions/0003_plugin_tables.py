"""The tables of each plugin, and the steps that it has done.

The tables ``charges``, ``emails`` and ``orders``, which the first schema had, belong to plugins. Empty ones are
dropped, and their plugins create them again; the others stay, with every row.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of plugins' tables, and drop what nobody has used."""
    op.create_table(
        "plugin_tables",
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("plugin"),
    )
    connection = op.get_bind()
    existing = sa.inspect(connection).get_table_names()
    for name in ("charges", "emails", "orders"):
        if name in existing and not connection.scalar(sa.select(sa.exists().select_from(sa.table(name)))):
            op.drop_table(name)
