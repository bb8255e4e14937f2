"""Notes in the order history about messages that a person removed from a queue."""

from __future__ import annotations

import time
from collections.abc import Callable

from runner.amqp.look import look
from runner.cli.queues.target import OpenProject
from runner.desk.letter import Letter
from runner.desk.note import discard_note
from runner.desk.places import Places
from runner.desk.record import content_of
from runner.errors import Unroutable
from runner.invocation import invocation
from runner.messages import Event

#: Makes the note of a message, from the message and its number; None for a message that needs none.
Noting = Callable[[Letter, int], Event | None]


def noting(site: OpenProject, queue: str, why: str, target: str | None = None) -> Noting | None:
    """Return the function that makes a note of each discarded message of ``queue``; None if no attempts are traced.

    ``why`` is the reason in the note. If a message moves to a ``target``, it gets no note if it still counts for the
    queue for which it was published. Then the target is that queue, one of its retry queues or its dead-letter queue.

    Raises Unroutable if the queue of the notes does not exist.
    """
    trace, places, now = site.attempts_queue, Places.of(site.objects), int(time.time() * 1000)
    if trace is None or trace == queue:
        return None
    if look([site.url], [trace])[1][trace] is None:
        text = "does not exist; without a note in the order history nothing is removed"
        raise Unroutable(f"queue {trace!r} {text}; make it: {invocation('apply')}")

    def note(letter: Letter, number: int) -> Event | None:
        origin = places.origin_of(letter) if queue in places.origins else places.waiting.get(queue, queue)
        if target is not None and origin is not None:
            ladder = site.objects.ladders.get(origin)
            own = [] if ladder is None else [ladder.dead_letter, *(wait for _, wait in ladder.steps)]
            if target in (origin, *own):
                return None
        past = {"origin": origin, "error": why, "replays": letter.replays}
        return discard_note({**content_of(letter), **past}, number, trace, now)

    return note
