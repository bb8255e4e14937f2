"""The suggested pattern for a key without a match, and the work to find it."""

from __future__ import annotations

import pytest

from runner.topology import key_suggestion
from runner.topology.key_suggestion import meant_pattern

#: Keys as many services would publish them.
KEYS = [tuple(f"region{number}.shop.order.created.big.v{number}".split(".")) for number in range(50)]


@pytest.mark.parametrize(
    ("pattern", "keys", "meant"),
    [
        ("created.order", [("order", "created")], "order.created"),
        ("created.order.eur", [("order", "created", None)], "order.created.eur"),
        ("*.order", [("order", "created")], "order.*"),
        ("#.order.created", [("order", "created", "eur")], "order.created.#"),
        ("order.order", [("order", "created")], None),
        ("Order.Created", [("order", "created")], "order.created"),
        ("v7.region7.shop.order.created.big", KEYS, "region7.shop.order.created.big.v7"),
    ],
)
def test_the_words_of_a_pattern_may_be_in_another_order(
    pattern: str, keys: list[key_suggestion.Words], meant: str | None
) -> None:
    assert meant_pattern(pattern, keys) == meant


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The patterns that are compared with a key."""
    found: list[str] = []
    compare = key_suggestion.may_match

    def counting(pattern: str, key: key_suggestion.Words) -> bool:
        found.append(pattern)
        return compare(pattern, key)

    monkeypatch.setattr(key_suggestion, "may_match", counting)
    return found


@pytest.mark.parametrize(
    "pattern",
    [
        "europe.store.invoice.paid.small.x1", "region7.shop.order.created.big.other", "a.b.c.d.e.f", "*.b.c.d.e.f",
        "v7.v8.v9.shop.order.big",
    ],
)  # fmt: skip
def test_a_pattern_with_words_that_no_key_has_is_not_tried_in_all_orders(pattern: str, compared: list[str]) -> None:
    meant_pattern(pattern, KEYS)
    assert len(compared) <= 10 * len(KEYS)
