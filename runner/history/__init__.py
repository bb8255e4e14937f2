"""The event history that audit records, and the order history that is read from it."""
