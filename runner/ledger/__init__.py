"""The ledger: what was published to each queue is handled, dead-lettered, discarded or waiting."""
