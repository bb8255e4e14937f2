"""The room of a queue for the messages that a replacement or a rename moves into it."""

from __future__ import annotations

from typing import Any

import pytest

from runner.topology.queue_limits import lacks_room

NEW_BYTES = {"max-length-bytes": 1000}


@pytest.mark.parametrize(
    ("wanted", "before", "messages", "is_refused"),
    [
        ({}, {}, 10, False),
        ({"max-length": 10}, {}, 10, False),
        ({"max-length": 9}, {}, 10, True),
        ({"max-length": 9, "overflow": "reject-publish"}, {"max-length": 9}, 10, True),
        (NEW_BYTES, {}, 0, False),
        (NEW_BYTES, {}, 1, True),
        (NEW_BYTES, {"max-length-bytes": 1000}, 1, False),
        (NEW_BYTES, {"max-length-bytes": 500}, 1, False),
        (NEW_BYTES, {"max-length-bytes": 1001}, 1, True),
        (NEW_BYTES | {"overflow": "drop-head"}, {}, 1, True),
        (NEW_BYTES | {"overflow": "reject-publish"}, {}, 1, False),
        (NEW_BYTES | {"overflow": "reject-publish-dlx"}, {}, 1, False),
    ],
)
def test_a_queue_that_would_drop_messages_has_no_room(
    wanted: dict[str, Any], before: dict[str, Any], messages: int, is_refused: bool
) -> None:
    assert (lacks_room(wanted, before, messages) is not None) is is_refused
