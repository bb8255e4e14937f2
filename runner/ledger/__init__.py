"""The ledger: each message published to a queue is handled, dead-lettered, discarded or waiting."""
