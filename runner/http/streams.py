"""Server-sent events (HTML Living Standard, section 9.2): the loop writes them, and no stream needs a thread.

A client that reads too slowly loses frames, never the others' time. It then gets the event ``lost`` with the number of
frames that it missed, so that a page knows when to load its data again.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from runner.http.problem import Problem
from runner.strict_json import encode_json

if TYPE_CHECKING:
    from flask import Response

    from runner.http.waitress_adapter import StrictChannel

#: Streams at once in a process; a client over that gets a 503.
MAX_STREAMS = 64
#: Bytes that wait for one client; a frame over that is lost to it, unless it is the only one.
MAX_BACKLOG = 64 * 1024
#: Frames of a feed that wait for the loop.
MAX_WAITING = 256
#: Milliseconds after which a browser connects again, as after a restart.
RECONNECT_MS = 2000
RETRY_AFTER_SECONDS = 10
#: A comment, by which a client that has left is noticed, and proxies see that the connection is used.
HEARTBEAT = b":\n\n"
#: In a request's environment: makes the client a subscriber of a feed. Raises Problem if there are too many streams.
SUBSCRIBE = "runner.http.subscribe"
_LINE_END = re.compile(r"\r\n|\r|\n")


def frame(data: object, event: str = "message", id: str | None = None) -> bytes:
    """Return an event as it is sent. Data that is no text is written as JSON. Raises ValueError and TypeError."""
    for name, value in (("event", event), ("id", id)):
        if value is not None and (_LINE_END.search(value) or "\0" in value):
            raise ValueError(f"{name}: holds a line end or NUL, {value!r}; allowed: one line")
    text = data if isinstance(data, str) else encode_json(data).decode()
    lines = [] if event == "message" else [f"event: {event}"]
    lines += [] if id is None else [f"id: {id}"]
    lines += [f"data: {line}" for line in _LINE_END.split(text)]
    return ("\n".join(lines) + "\n\n").encode()


class Feed:
    """Events for all clients that are subscribed at the time; ``send`` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: deque[bytes] = deque()
        self._dropped = 0
        #: Wakes the loop; None while there is no subscriber.
        self._wake: Callable[[Feed], None] | None = None

    def send(self, data: object, event: str = "message", id: str | None = None) -> None:
        """Send an event to each subscriber: a text, or anything else as JSON.

        It returns at once. Raises ValueError or TypeError for what is neither, and for a name or id of several lines.
        """
        wake = self._wake
        if wake is None:
            return
        one = frame(data, event, id)
        with self._lock:
            if len(self._frames) >= MAX_WAITING:
                self._dropped += 1
                return
            self._frames.append(one)
        wake(self)

    def has_subscribers(self) -> bool:
        """Return True if there is a client that gets what is sent now."""
        return self._wake is not None

    def connect(self, wake: Callable[[Feed], None] | None) -> None:
        """Have ``wake`` called for each event; None as the last subscriber leaves."""
        with self._lock:
            self._wake = wake
            if wake is None:
                self._frames.clear()

    def taken(self) -> tuple[int, list[bytes]]:
        """Take the frames that wait, and the number of those that were dropped before them."""
        with self._lock:
            dropped, frames = self._dropped, list(self._frames)
            self._dropped = 0
            self._frames.clear()
        return dropped, frames


class _Subscriber:
    """One client of a feed."""

    def __init__(self, channel: StrictChannel, feed: Feed) -> None:
        self.channel, self.feed, self.lost = channel, feed, 0

    def push(self, frames: list[bytes]) -> None:
        """Send the frames for which it has room."""
        for one in frames:
            backlog = self.channel.backlog
            if backlog and backlog + len(one) > MAX_BACKLOG:
                self.lost += 1
                continue
            if self.lost:
                self.channel.push(frame(str(self.lost), "lost"))
                self.lost = 0
            self.channel.push(one)


class Streams:
    """The streams of a server. The loop's thread calls all of this, except ``reserve`` and ``begin``."""

    def __init__(self, wake: Callable[[], None], most: int) -> None:
        """``wake`` wakes the loop; ``most`` is how many streams there may be."""
        self._wake, self._most = wake, most
        self._lock = threading.Lock()
        #: All connections that are streams, or are about to be.
        self._places: set[StrictChannel] = set()
        self._begun: deque[tuple[StrictChannel, bytes, Feed]] = deque()
        self._changed: deque[Feed] = deque()
        self._subscribers: dict[StrictChannel, _Subscriber] = {}

    def reserve(self, channel: StrictChannel) -> None:
        """Keep a place for a connection until it is closed. Raises Problem, a 503, if there is none."""
        with self._lock:
            if len(self._places) >= self._most:
                text = f"{self._most} streams are open, which is the most; close one, or try again"
                raise Problem(503, text, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
            self._places.add(channel)

    def begin(self, channel: StrictChannel, head: bytes, feed: Feed) -> None:
        """Have the loop send an answer's head, and what the feed sends after that."""
        self._begun.append((channel, head + b"retry: %d\n\n" % RECONNECT_MS, feed))
        self._wake()

    def forget(self, channel: StrictChannel) -> None:
        """Give the place of a closed connection to another one."""
        with self._lock:
            self._places.discard(channel)
        subscriber = self._subscribers.pop(channel, None)
        if subscriber is not None and not self._of(subscriber.feed):
            subscriber.feed.connect(None)

    def work(self) -> None:
        """Send what there is to send."""
        while self._begun:
            channel, head, feed = self._begun.popleft()
            if channel in self._places:  # it may be closed by now
                self._subscribers[channel] = _Subscriber(channel, feed)
                feed.connect(self._has_changed)
                channel.push(head)
        while self._changed:
            feed = self._changed.popleft()
            dropped, frames = feed.taken()
            if not frames:
                continue
            for one in self._of(feed):
                one.lost += dropped
                one.push(frames)

    def keep_alive(self) -> None:
        """Send something to all whose clients have read everything."""
        for channel in tuple(self._subscribers):
            if not channel.backlog:
                channel.push(HEARTBEAT)

    def _has_changed(self, feed: Feed) -> None:
        self._changed.append(feed)
        self._wake()

    def _of(self, feed: Feed) -> list[_Subscriber]:
        return [one for one in self._subscribers.values() if one.feed is feed]


class StreamBody:
    """The body of an answer that is a stream. The server subscribes its client; elsewhere it is empty."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


def stream(feed: Feed) -> Response:
    """Return the answer of a Flask view that subscribes its client to a feed.

    The client gets what is sent from now on, until it leaves or the service stops. At most 64 clients are subscribed
    at once in a process; others get a 503.
    """
    # Imported here because an application may have another framework.
    from flask import Response

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    body: Any = StreamBody(feed)
    return Response(body, headers=headers, mimetype="text/event-stream", direct_passthrough=True)
