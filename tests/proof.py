"""Long proofs. The suite runs their short form, ``make chaos-full`` the full form."""

from __future__ import annotations

import os

#: True in ``make chaos-full``.
IS_FULL = os.environ.get("FASTCOMMERCE_PROOF") == "full"

#: The databases of a proof. The short form uses only SQLite.
DATABASES = ["sqlite", "postgresql"] if IS_FULL else ["sqlite"]
#: The queue types of a proof that kills brokers. The short form uses only quorum queues.
QUEUE_TYPES = ["quorum", "classic"] if IS_FULL else ["quorum"]


def times(short: int, full: int) -> int:
    """Return the number of repetitions."""
    return full if IS_FULL else short
