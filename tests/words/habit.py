"""The rules of the check: each finds one habit in a sentence or a name, and says what is allowed instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.words.sentence import Sentence

PROSE = frozenset({"opening", "docstring", "comment", "message", "docs", "cell", "heading"})
FULL_SENTENCES = PROSE - {"heading"}
LONGEST = 30
#: Words of the glossary's column "not", as parts of the names of modules, classes and functions.
_CONDITION = re.compile(
    r"\b[Ww]here (?:(?:no|none|nothing|neither|nobody|that|one|a|an|any|several|both|all|the|this|its|something|only)\b"
    r"|there (?:is|are|was)\b"
    r"|(?:it|they) (?:can|cannot|has|have|had|does|do|would|could|may|must)\b(?! (?:been|come|to)\b)"
    r"|(?:it|they) (?:is|are|was) (?:a|an|the|not|no|empty|given|set|kept|known|full|killed|missing|already|needed)\b)"
)
#: Words after which ``where`` is a place.
_ASKS_FOR_PLACE = re.compile(
    r"\b(?:sees?|says?|shows?|[Rr]eturns?|knows?|finds?|reads?|from|to|back|of|begins?|is|and|port|ports|place|places|line|folder|down)$"
)
PRIVATE_WORDS = {
    "desk": "dead_letter, browser, replay",
    "letter": "dead_letter",
    "letters": "dead_letters",
    "journey": "order_history",
    "journeys": "order_history",
    "story": "order_history",
    "parked": "dead_lettered",
    "park": "dead_letter",
    "parks": "dead_letters",
    "ladder": "retry_delays",
    "ladders": "retry_delays",
    "dock": "crashing_messages",
    "hands": "in_flight, unacked",
    "pulse": "watchdog_ping",
    "intake": "deduplication",
    "suspect": "crashing_message",
    "suspects": "crashing_messages",
    "accused": "crashing_message",
    "accuse": "blame",
    "accusation": "crash_blame",
    "condemned": "crashing_message",
    "conservation": "ledger",
    "away": "unreachable",
    "nobody": "no consumer, no process",
    "somebody": "another client",
    "whoever": "a client that",
    "anew": "again",
    "mend": "fix",
    "mended": "fixed",
    "mends": "fixes",
    "told": "reported, notified",
    "tells": "reports",
}


@dataclass(frozen=True)
class Rule:
    """One habit: where to look for it, and how to write instead."""

    name: str
    kinds: frozenset[str]
    find: Callable[[Sentence], str | None]
    allowed: str


def words(expression: str) -> Callable[[Sentence], str | None]:
    """Return a function that finds the first match of whole words in a sentence without its code."""
    compiled = re.compile(rf"\b(?:{expression})\b", re.IGNORECASE)

    def find(sentence: Sentence) -> str | None:
        match = compiled.search(sentence.plain)
        return match[0].strip() if match else None

    return find


def clause(sentence: Sentence) -> str | None:
    """Find a sentence that begins with a clause in place of its subject. A question may begin so."""
    words = "What|Whatever|Whether|How|Who|Whoever|Whom|Whose|Which"
    if sentence.kind == "opening":
        words += "|Where|When|Why|That which"
    match = re.match(rf"[\"'(*_“]*((?:{words})\b)", sentence.plain)
    return match[1] if match and "?" not in sentence.text[-3:] else None


def place_for_condition(sentence: Sentence) -> str | None:
    """Find ``where`` that stands for ``if`` or ``when``. At the start of an opening, the rule for openings finds it."""
    text = sentence.plain
    for match in _CONDITION.finditer(text, 1 if sentence.kind == "opening" else 0):
        before = text[: match.start()].rstrip("(\"' ")
        is_relative = before.endswith(",") and match[0].split()[1] in {"the", "a", "an", "its", "all", "both", "one"}
        is_object = _ASKS_FOR_PLACE.search(before)
        is_clause = not before and "," not in text
        if not (is_relative or is_object or is_clause):
            return match[0]
    return None


def long(sentence: Sentence) -> str | None:
    """Count the words of a sentence; a piece of code is one word."""
    count = len([word for word in re.split(r"[\s/…]+", sentence.plain) if re.search(r"\w", word)])
    return f"{count} words" if count > LONGEST else None


def semicolons(sentence: Sentence) -> str | None:
    """Find two semicolons in one sentence."""
    count = sentence.plain.count(";")
    return f"{count} semicolons" if count > 1 else None


def private_name(sentence: Sentence) -> str | None:
    """Find a private word in a name. The name of a test has a rule of its own."""
    return None if sentence.text.startswith("test_") else _private_word(sentence.text)


def private_sentence(sentence: Sentence) -> str | None:
    """Find a private word in the name of a test, which is a sentence."""
    return _private_word(sentence.text) if sentence.text.startswith("test_") else None


def _private_word(name: str) -> str | None:
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")
    for before, part in zip(["", *parts], parts, strict=False):
        if part in PRIVATE_WORDS and not (part.startswith("letter") and before == "dead"):
            return f"{part!r} in {name}, for {PRIVATE_WORDS[part]}"
    return None


#: Words of other centuries, or of another language's syntax.
_OLD = (
    r"anew|mend(?:s|ed|ing)?|for good(?! (?:reason|and)|,)|but for|for want of|in vain|hence|whence|lest|albeit"
    r"|thereof|thereupon|therein|wherein|whereupon|therewith|heed(?:s|ed)?|hitherto|thus|amid"
)
_PEOPLE = r"(?:nobody|somebody|anybody|everybody|someone|anyone|whoever|whomever)(?:'s)?"
#: A letter of the alphabet is allowed.
_LETTER = (
    r"(?<!dead )(?<!dead-)(?<!capital )(?<!case )(?<!upper )(?<!lower )(?<!Latin )"
    r"letters?\b(?! or (?:digit|number|two)| and (?:digit|number)|, digits|'s width)"
)
_PRIVATE = (
    r"desks?|journeys?|story|stories|parked|parks?|parking|ladders?|docks?|in hand|in its hands|intakes?"
    r"|accus(?:ed?|es|ation\w*|ing)|condemn\w*|suspects?|suspected|pulses?|wait queues?|retry polic(?:y|ies)"
    r"|(?:the|a|each|every|next|last|first|second|another|one|per|of) (?:try|tries)\b(?! to)"
)

#: A thing that only a later word, or another sentence, names.
_PRONOUN = (
    r"(?<!.)(?:one|ones|those|everything|each|others) (?:that|which|who|whose|of which)"
    r"|(?:another|no other) one(?! of)"
)

RULES = (
    Rule("opening", frozenset({"opening"}), clause, "an imperative for a function, a noun phrase for the rest"),
    Rule("clause", FULL_SENTENCES - {"opening"}, clause, "a noun as the subject"),
    Rule("pronoun", PROSE, words(_PRONOUN), "the noun, such as message, queue or process"),
    Rule("where", PROSE, place_for_condition, "if, when"),
    Rule(
        "tell",
        PROSE,
        words(r"tells?|told|telling|(?:say|says|said|saying) of"),
        "report, print, log, show; distinguish",
    ),
    Rule("people", PROSE, words(_PEOPLE), "the process, client or reader that is meant"),
    Rule("old word", PROSE, words(_OLD), "again, fix, permanently, except, for lack of, so"),
    Rule("so many", PROSE, words(r"so (?:many|much|long|often|few)(?! as\b| that\b)|by so"), "N or a figure"),
    Rule(
        "take",
        PROSE,
        words(r"(?:take|takes|took|taking|taken) (?:no(?! longer)|none|nothing|in(?! turn)|over(?! (?:\{|\d|N\b)))"),
        "handle, accept, use, remove, apply",
    ),
    Rule(
        "away",
        PROSE,
        words(r"(?<!right )(?<!far )(?<!give )(?<!throw )(?<!thrown )away(?! from)"),
        "unreachable; removed; dropped",
    ),
    Rule("long", FULL_SENTENCES, long, f"at most {LONGEST} words; two sentences or a list"),
    Rule("semicolons", FULL_SENTENCES - {"cell"}, semicolons, "one semicolon; full stops or a list"),
    Rule(
        "glossary",
        PROSE,
        words(f"{_LETTER}|{_PRIVATE}"),
        "dead letter, dead-lettered, order history, retry delays, retry queue, crashing message, unacked, attempt",
    ),
    Rule("name", frozenset({"name"}), private_name, "the word of the glossary"),
    Rule("test name", frozenset({"name"}), private_sentence, "the word of the glossary"),
)


def hits(found: Sentence) -> Iterator[tuple[Rule, str]]:
    """Yield each rule that a sentence breaks, with what it found."""
    for rule in RULES:
        if found.kind in rule.kinds and (text := rule.find(found)) is not None:
            yield rule, text
