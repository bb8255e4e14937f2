"""The statuses of orders that the plugins of a project declare together."""

from __future__ import annotations

import pytest

from runner.config.document import Document
from runner.contract import Terms
from runner.inspection.checked_project import _check_statuses

A, B = {"stock.reserved": "reserved"}, {"stock.reserved": "sent"}


@pytest.mark.parametrize(
    ("declared", "wrong"),
    [
        ([A, A, {"stock.sold": "sent"}, {}], {}),
        ([A, B], {2: ("sent", "reserved", "a")}),
        ([B, A], {2: ("reserved", "sent", "a")}),
        ([A, {}, B], {3: ("sent", "reserved", "a")}),
        ([A, B, A, B], {2: ("sent", "reserved", "a"), 4: ("sent", "reserved", "a")}),
        ([{}, {"stock.sold": "sent"} | B, A], {3: ("reserved", "sent", "b")}),
    ],
)
def test_an_event_has_one_status(declared: list[dict[str, str]], wrong: dict[int, tuple[str, str, str]]) -> None:
    names = "abcd"[: len(declared)]
    document = Document("config.yaml", "services:\n" + "".join(f"  {name}: {{}}\n" for name in names), {})
    terms = {name: Terms({}, {}, (), statuses=one) for name, one in zip(names, declared, strict=True)}
    _check_statuses(terms, document)
    assert [str(one) for one in document.faults] == [
        f"config.yaml:{number + 1}: services.{names[number - 1]}: declares order status {status!r} after "
        f"'stock.reserved', but {first!r} declares {other!r}; allowed: one status per event"
        for number, (status, other, first) in wrong.items()
    ]
