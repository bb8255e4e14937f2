"""What is kept in a database: inbox, outbox, charges, e-mails and the audit's events; SQLite, or PostgreSQL."""
