"""RabbitMQ's text for a refused declaration, in the words of this project."""

from __future__ import annotations

import re

import pytest

from runner.admin.declaration import _INEQUIVALENT, difference_text


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current"
            " is 'true'",
            "durable is 'false' here, but 'true' on the broker; change it back here, or delete the queue on the broker"
            " with its messages and start again",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'it''s' in vhost 'a': received the value"
            " '1000' of type 'signedint' but current is none",
            "x-message-ttl is '1000' here, but not set on the broker; change it back here, or delete the queue on the"
            " broker with its messages and start again",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received none but"
            " current is the value 'quorum' of type 'longstr'",
            "x-queue-type is not set here, but 'quorum' on the broker; change it back here, or delete the queue on the"
            " broker with its messages and start again",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': received 'topic' but current"
            " is 'fanout'",
            "type is 'topic' here, but 'fanout' on the broker; change it back here, or delete the exchange on the"
            " broker with its bindings and start again",
        ),
    ],
)
def test_both_values_and_the_remedy_are_named(reply: str, text: str) -> None:
    difference = _INEQUIVALENT.search(reply)
    assert difference is not None
    assert difference_text([difference]) == text


def differences(**values: tuple[str, str]) -> list[re.Match[str]]:
    replies = (
        f"inequivalent arg '{key.replace('_', '-')}' for queue 'q' in vhost '/': received the value '{ours}' of type"
        f" 'longstr' but current is the value '{theirs}' of type 'longstr'"
        for key, (ours, theirs) in values.items()
    )
    return [match for match in map(_INEQUIVALENT.search, replies) if match]


def test_all_differences_are_named_together() -> None:
    assert difference_text(differences(x_a=("1", "2"), x_b=("3", "4"))).startswith(
        "x-a is '1' here, but '2' on the broker, x-b is '3' here, but '4' on the broker; change it back here"
    )


def test_another_queue_type_has_other_arguments_which_are_not_named() -> None:
    assert difference_text(differences(x_a=("1", "2"), x_queue_type=("classic", "quorum"))).startswith(
        "x-queue-type is 'classic' here, but 'quorum' on the broker; change it back here"
    )


def test_other_texts_of_the_broker_are_no_difference() -> None:
    assert _INEQUIVALENT.search("ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'guest'") is None
