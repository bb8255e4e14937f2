"""The process id of each attempt, which is unknown for attempts that earlier versions recorded.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column."""
    op.add_column("attempts", sa.Column("pid", sa.Integer()))
