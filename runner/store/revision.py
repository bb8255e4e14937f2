"""Which schema this version works with; apart from the tables, so that a reader needs no SQLAlchemy to know."""

#: The migration that the tables of ``runner.store.schema`` are the result of.
REVISION = "0003"
