"""The database of a service: deduplication, outbox and the tables of plugins, in SQLite or PostgreSQL."""
