"""A RabbitMQ argument or policy key, with its allowed values, uses and versions."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from runner.config.error_detail import one_of
from runner.config.value import LONGEST_INTEGER
from runner.config.version import EVERY_VERSION, OLDEST, Deprecation, Span, Version, dotted, excludes

_AGE = re.compile(r"\d+[YMDhms]")


@dataclass(frozen=True)
class Setting:
    """An argument or policy key of a queue or an exchange."""

    #: The policy key. The argument is ``x-`` followed by this key, unless ``argument`` is set.
    key: str
    #: ``integer``, ``text``, ``boolean``, ``age`` (such as ``7D``) or ``any``.
    kind: str
    #: The queue types that support the setting, or an empty collection for an exchange setting.
    types: Collection[str] = ()
    minimum: int | None = None
    maximum: int | None = None
    #: The allowed words, or an empty tuple if the setting accepts any text.
    words: tuple[str, ...] = ()
    #: The first broker version that supports the setting, and the first later version that no longer supports it.
    since: Version = OLDEST
    until: Version | None = None
    #: True if the setting is allowed in a policy.
    is_policy: bool = True
    #: True if the setting is allowed as an argument.
    is_argument: bool = True
    argument: str = field(default="")
    #: The versions that accept the setting as an argument, for each queue type whose range of versions differs.
    by_type: Mapping[str, Span] = field(default_factory=dict)
    #: The versions that accept a value as an argument, for each value whose range of versions differs.
    by_value: Mapping[object, Span] = field(default_factory=dict)
    #: The versions that accept a value in a policy, for each value whose range of versions differs.
    policy_by_value: Mapping[object, Span] = field(default_factory=dict)
    #: The versions that compare the setting when a queue or exchange is redeclared, or None if no version compares it.
    compared: Span | None = EVERY_VERSION
    #: The deprecated feature that the setting belongs to. A broker may deny the feature.
    deprecation: Deprecation | None = None

    @property
    def argument_key(self) -> str:
        """The setting's name in the arguments of ``queue.declare`` or ``exchange.declare``."""
        return self.argument or f"x-{self.key}"

    def is_compared(self, version: Version) -> bool:
        """Return True if a broker of this version refuses to redeclare a queue with another value of this setting."""
        return self.compared is not None and self.compared.covers(version)

    def version_problem(
        self,
        value: object,
        version: Version,
        *,
        is_policy: bool,
        queue_type: str | None = None,
        denied: Collection[str] | None = None,
    ) -> str | None:
        """Return why a broker of this version refuses this setting, or None if the broker accepts the setting."""
        if self.deprecation is not None and (problem := self.deprecation.problem(version, denied)) is not None:
            return problem
        span = Span(self.since, self.until)
        if queue_type is not None and not is_policy:
            span = self.by_type.get(queue_type, span)
        values = self.policy_by_value if is_policy else self.by_value
        at_value = values.get(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
        if (problem := span.problem(version)) is not None:
            return problem
        if at_value is not None and (problem := at_value.problem(version)) is not None:
            return f"{value} {problem}"
        if is_policy and queue_type is not None and excludes(self.key, queue_type, version):
            return f"makes RabbitMQ {dotted(version)} ignore the whole policy for a {queue_type} queue"
        return None

    def problem(self, value: object, shown_value: str) -> str | None:
        """Return the error in a value, with the allowed values, or None if the value is valid."""
        wrong = ""
        match self.kind:
            case "integer" if isinstance(value, bool) or not isinstance(value, int):
                wrong = f"not a whole number, {shown_value}; allowed: a whole number"
            case "integer" if not self._is_in_range(int(str(value))):
                is_low = self.minimum is not None and int(str(value)) < self.minimum
                end = "or more" if self.maximum is None and is_low else f"to {self.maximum or LONGEST_INTEGER}"
                wrong = f"out of range, {shown_value}; allowed: {self.minimum} {end}"
            case "boolean" if not isinstance(value, bool):
                wrong = f"not true or false, {shown_value}; allowed: true, false"
            case "text" | "age" if not isinstance(value, str):
                wrong = f"not text, {shown_value}; allowed: {', '.join(self.words) or 'text'}"
            case "text" if self.words and value not in self.words:
                wrong = f"unknown value {shown_value}; {one_of(str(value), self.words)}"
            case "age" if not _AGE.fullmatch(str(value)):
                wrong = f"not an age, {shown_value}; allowed: a number and a unit (Y, M, D, h, m or s), such as 7D"
        return wrong or None

    def _is_in_range(self, value: int) -> bool:
        most = LONGEST_INTEGER if self.maximum is None else self.maximum
        return (self.minimum is None or value >= self.minimum) and value <= most
