"""What Alembic runs for each migration: on the connection that it was given, in its transaction."""

from alembic import context

from runner.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
