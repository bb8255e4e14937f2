"""The keys of bindings in the node to which the bindings lead."""

from __future__ import annotations

from dataclasses import dataclass

from runner.topology.picture.drawing import Chip, Label
from runner.topology.picture.folding import FoldedEdge, FoldedGraph
from runner.topology.picture.text_width import DETAIL, short_name, width_of

#: The number of keys that a service or an exchange shows at most.
MOST_KEYS = 4


@dataclass(frozen=True)
class Key:
    """A key of a binding, with the exchange of the binding and the text that is shown."""

    exchange: str
    key: str
    text: str
    title: str

    @property
    def width(self) -> float:
        """The width of the chip."""
        return width_of(self.text, DETAIL, monospace=True) + 14


def keys_of(bindings: list[FoldedEdge], graph: FoldedGraph) -> list[Key]:
    """Return the keys of bindings. A fanout exchange ignores keys, and an empty key is named."""
    found = []
    for edge in bindings:
        exchange = graph.node(edge.source)
        for key in edge.keys:
            text = short_name(key) or ("every message" if exchange.note == "fanout" else "empty key")
            found.append(Key(exchange.name, key, text, f"binding of {exchange.name}: {key or text}"))
    return found


def few_keys(keys: list[Key]) -> list[Key]:
    """Return at most four keys, the last of which counts the others."""
    if len(keys) <= MOST_KEYS:
        return keys
    rest = keys[MOST_KEYS - 1 :]
    names = ", ".join(one.key for one in rest)
    return [*keys[: MOST_KEYS - 1], Key(rest[0].exchange, "", f"{len(rest)} more", names)]


def chip_at(key: Key, x: float, y: float) -> Chip:
    """Return a key with its upper left corner at a position."""
    text = Label(x + 7, y + 13, key.text, "key", key.width - 14, title=key.title)
    return Chip(key.exchange, key.key, x, y, key.width, text)
