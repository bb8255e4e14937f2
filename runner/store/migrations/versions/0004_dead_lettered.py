"""The attempt outcome ``dead_lettered``, which earlier versions called ``parked``.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Rename the outcome in every row."""
    op.execute("UPDATE attempts SET outcome = 'dead_lettered' WHERE outcome = 'parked'")
