"""The event that every publisher sends: about 170 bytes, like ``order.created``."""

from __future__ import annotations

import json


def body(number: int) -> dict[str, str]:
    """Return the event with a number."""
    return {
        "order_id": f"{number:08x}-0000-4000-8000-000000000000",
        "customer_email": f"customer{number % 1000000:06}@example.com",
        "amount": "149.99",
        "currency": "USD",
        "region": "eu",
        "note": f"{number % 1000000:06}",
    }


def encoded(number: int) -> bytes:
    """Return the event with a number as JSON."""
    return json.dumps(body(number)).encode()
