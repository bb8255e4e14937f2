"""The ledger on a real broker, with the real runner."""
