"""Amounts of charges with four decimal places, because some currencies have three or four (ISO 4217).

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rename the column, and convert what is in it."""
    op.execute("ALTER TABLE charges RENAME COLUMN hundredths TO ten_thousandths")
    op.execute("UPDATE charges SET ten_thousandths = ten_thousandths * 100")
