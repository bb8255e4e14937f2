"""Charge amounts with four decimal places, because some currencies have three or four decimal places (ISO 4217).

Revision ID: 0002
"""

from alembic import op
from sqlalchemy import inspect

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rename the column for amounts and convert its values."""
    if not inspect(op.get_bind()).has_table("charges"):
        return  # the table has belonged to a plugin since 0003
    op.execute("ALTER TABLE charges RENAME COLUMN hundredths TO ten_thousandths")
    op.execute("UPDATE charges SET ten_thousandths = ten_thousandths * 100")
