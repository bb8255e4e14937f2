"""Proofs that take long: their short form is in the suite, ``make chaos-full`` runs them in full."""

from __future__ import annotations

import os

#: Set by ``make chaos-full``.
IS_FULL = os.environ.get("FASTCOMMERCE_PROOF") == "full"

#: The databases of a proof; its short form is on SQLite alone.
DATABASES = ["sqlite", "postgresql"] if IS_FULL else ["sqlite"]
#: The types of queues of a proof that kills brokers; its short form is on quorum queues alone.
QUEUE_TYPES = ["quorum", "classic"] if IS_FULL else ["quorum"]


def times(short: int, full: int) -> int:
    """How often something is done."""
    return full if IS_FULL else short
