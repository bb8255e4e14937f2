"""Suggestions for binding keys that match no published key because of wrong case, word order or spelling."""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from runner.topology.offline_routing import matches_topic, words_of

#: The maximum number of words in a key for which all word orders are tried.
MOST_WORDS = 6
#: The minimum similarity, from 0 to 1, at which one word counts as a misspelling of another.
LIKENESS = 0.7
#: A pattern for the possible values of a template field (see ``runner.worker.event_routing.routing_key``).
_FIELD_WORD = re.compile(r"[a-z0-9_-]+|\*|#")

Words = Sequence[str | None]


def meant_pattern(pattern: str, keys: Iterable[Words], *, is_topic: bool = True) -> str | None:
    """Return a similar pattern that matches one of ``keys``, or None if there is no such pattern.

    None in a key stands for any single word in lower case.
    """
    words, known = words_of(pattern), [tuple(one) for one in keys]
    for candidate in _candidates(words, known):
        text = ".".join(candidate)
        if text != pattern and any(_matches(text, key, is_topic=is_topic) for key in known):
            return text
    return None


def may_match(pattern: str, key: Words) -> bool:
    """Return True if a topic pattern may match a key.

    The value of a template field is a word in lower case without special characters.
    """
    if not matches_topic(pattern, key):
        return False
    if None not in key or "#" in words_of(pattern):
        return True
    pairs = zip(words_of(pattern), key, strict=False)
    return all(word is not None or _FIELD_WORD.fullmatch(part) for part, word in pairs)


def _matches(pattern: str, key: Words, *, is_topic: bool) -> bool:
    return may_match(pattern, key) if is_topic else words_of(pattern) == list(key)


def _candidates(words: list[str], keys: Sequence[Words]) -> Iterable[list[str]]:
    yield [word.lower() for word in words]
    if len(words) <= MOST_WORDS and any(_has_words(key, words) for key in keys):
        yield from (list(one) for one in itertools.permutations(words))
    spelled = sorted({word for key in keys for word in key if word is not None})
    yield [_spelled(word, spelled) for word in words]
    for key in keys:
        # The pattern may have one word too many or too few.
        known = [str(word) for word in key]
        fewer, more = sorted((words, known), key=len)
        if len(more) - len(fewer) == 1 and None not in key and {*fewer} - {"#", "*"} <= {*more}:
            yield known


def _has_words(key: Words, words: Sequence[str]) -> bool:
    """Return True if a key may contain all words in a pattern, in any order."""
    # This check excludes most keys quickly. Trying all orders of six words takes a hundred times as long.
    lacking = Counter(word for word in words if word not in ("*", "#"))
    lacking.subtract(word for word in key if word is not None)
    return sum(count for count in lacking.values() if count > 0) <= sum(word is None for word in key)


def _spelled(word: str, spelled: Sequence[str]) -> str:
    if word in ("*", "#") or word in spelled:
        return word
    (close,) = difflib.get_close_matches(word.lower(), spelled, n=1, cutoff=LIKENESS) or [word]
    return close
