"""Bugs for a copy of the product. Checks that do not find each bug are not to be trusted."""

from __future__ import annotations

import compileall
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.failpoint import Point
from tests.running import ROOT

#: The folders that a copy needs to run and to be simulated.
TREE = ("runner", "plugins", "tests/simulation")
PIPELINE, DELIVERY = "runner/worker/pipeline.py", "runner/worker/delivery.py"
DEDUPLICATION = "runner/worker/deduplication.py"
PUBLISHER, CONSUMER, RELAY = "runner/amqp/publisher.py", "runner/amqp/consumer.py", "runner/store/outbox.py"
WINDOW = "runner/amqp/confirms_and_returns.py"


@dataclass(frozen=True)
class Mutant:
    """One bug: a text that occurs once in a file, and its replacement."""

    name: str
    file: str
    old: str
    new: str
    #: The failpoint that reveals the bug.
    point: Point | None = None
    #: True if the simulation finds the bug.
    is_simulated: bool = True
    #: Further replacements in the same file.
    more: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name

    def make(self, folder: Path) -> Path:
        """Create a copy of the product with the bug. Raises AssertionError if the code has changed."""
        compileall.compile_dir(ROOT / "tests" / "simulation", quiet=2)
        for name in TREE:
            # With the compiled code: it is valid for a file's time and size, which the copies keep.
            # Temporary files of other processes are left out.
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*"))
        shutil.copy(ROOT / "tests" / "__init__.py", folder / "tests")
        self.apply(folder)
        return folder

    def apply(self, folder: Path) -> None:
        """Put the bug into a copy, which may have other bugs. Raises AssertionError as ``make`` does."""
        path = folder / self.file
        text = path.read_text()
        for old, new in ((self.old, self.new), *self.more):
            assert text.count(old) == 1, f"{self.file}: found {text.count(old)} times instead of once: {old}"
            text = text.replace(old, new)
        path.write_text(text)


MUTANTS = [
    Mutant(
        "the ack precedes the handler",
        PIPELINE,
        "        self._queue.put(DeliveryLifecycle(delivery, self._runtime.monotonic()))",
        "        delivery.ack()\n        self._queue.put(DeliveryLifecycle(delivery, self._runtime.monotonic()))",
        Point("payment", "before", "commit"),
        more=(("        one.delivery.ack()\n", ""),),
    ),
    Mutant(
        "the consumer acknowledges automatically",
        CONSUMER,
        "channel.basic_consume(queue, self._receiver(channel, queue), callback=self._count)",
        "channel.basic_consume(queue, self._receiver(channel, queue), auto_ack=True, callback=self._count)",
        Point("payment", "before", "publish"),
        more=(("current.basic_ack(tag, multiple=multiple)", "pass"),),
    ),
    Mutant(
        "the ack does not wait for the confirm",
        PIPELINE,
        "            self._send(encoded, answered, may_wait=may_wait)",
        "            self._send(encoded, lambda *_: None, may_wait=may_wait)\n            answered(encoded, None)",
        Point("payment", "before", "publish"),
    ),
    Mutant(
        "the ack does not wait for the copy for the next attempt",
        PIPELINE,
        "        self._feed(one, DeliveryEvent.DEAD_LETTER if failure.delay is None else DeliveryEvent.RETRY)",
        "        self._send(one.outgoing[0], lambda *_: None, may_wait=True)\n        self._ack(one)",
        Point("payment", "before", "retry-queue publish"),
    ),
    Mutant(
        "the ack does not wait for the commit",
        DEDUPLICATION,
        "            return DeliveryEvent.WRITTEN",
        "            self._end(one.message)\n            return DeliveryEvent.HANDLED",
        Point("points", "before", "commit"),
    ),
    Mutant(
        "the inbox is committed apart from the handler's writes",
        DEDUPLICATION,
        "            store.run(connection)\n",
        "",
        Point("points", "after", "commit"),
        more=(
            (
                "        return self._storage.get().commit(work, new=new, lock=lock)",
                "        future = self._storage.get().commit(work, new=new, lock=lock)\n"
                "        self._storage.get().commit(store.run)\n"
                "        return future",
            ),
        ),
    ),
    Mutant(
        "the inbox forgets the events of a decision",
        DEDUPLICATION,
        "            if is_known and decides and one.outgoing:",
        "            if False:",
    ),
    Mutant(
        "a decision that fails keeps its writes",
        "runner/store/commit_batch.py",
        "        savepoint.rollback()\n",
        "        savepoint.commit()\n",
    ),
    Mutant(
        "deduplication is off",
        DEDUPLICATION,
        "        return self._keep is not None and message.has_own_id",
        "        return False",
        Point("points", "before", "ack"),
    ),
    Mutant(
        "202 does not wait for the confirm",
        "runner/http/direct_routes.py",
        "                future.add_done_callback(partial(self._confirmed, number))",
        "                done: Future[None] = Future()\n                done.set_result(None)\n"
        "                self._confirmed(number, done)",
        Point("order_direct", "before", "publish"),
        is_simulated=False,
    ),
    Mutant(
        "202 does not wait for the commit",
        "plugins/order_api/order_outbox.py",
        "            self._outbox.transact(work).result(WAIT_SECONDS)",
        "            self._outbox.transact(work)",
        Point("order_api", "before", "commit"),
        is_simulated=False,
    ),
    Mutant(
        "an event is marked as sent before its publish",
        RELAY,
        "        futures, sent = [], []\n",
        "        futures, sent = [], []\n"
        "        numbers = [one.number for one in batch]\n"
        "        self._store.commit(lambda connection: mark_sent(connection, numbers)).result()\n",
        Point("order_api", "before", "publish"),
        is_simulated=False,
    ),
    Mutant(
        "the relay does not wait for confirms",
        RELAY,
        "                future.result()  # the publisher's confirm timeout limits the wait\n",
        "",
        Point("order_api", "before", "publish"),
        is_simulated=False,
    ),
    Mutant(
        "an event that the relay could not publish is marked as sent",
        RELAY,
        "            except BrokerError as error:\n                self._warn(str(error))\n        if sent:\n",
        "            except BrokerError:\n                sent.append(number)\n        if sent:\n",
        Point("order_api", "cut", "publish"),
        is_simulated=False,
    ),
    Mutant(
        "a replay acknowledges before the confirm",
        "runner/deadletters/replay.py",
        '        self._unconfirmed.publish(copy, ("", "", copy.target), body, properties)\n',
        '        self._unconfirmed.publish(copy, ("", "", copy.target), body, properties)\n'
        "        self._channel.basic_ack(copy.tag)\n",
        Point("dlq", "before", "replay"),
        is_simulated=False,
        more=(("            self._acks.done(copy.tag)\n", ""),),
    ),
    Mutant(
        "acks include unfinished deliveries",
        "runner/amqp/ack_batching.py",
        "        if self._done:\n            acks.extend((tag, False) for tag in sorted(self._done))\n",
        "        if self._done:\n            acks.append((max(self._done), True))\n",
    ),
    Mutant(
        "messages that are unconfirmed at a lost connection count as confirmed",
        PUBLISHER,
        "        for outgoing in unconfirmed:\n            self._finish(outgoing, error)\n",
        "        for outgoing in unconfirmed:\n            self._finish(outgoing, None)\n",
    ),
    Mutant(
        "an unroutable message counts as confirmed",
        WINDOW,
        "        place = (name_of(properties.message_id), method.exchange, method.routing_key)\n",
        "        return\n",
    ),
    Mutant(
        "a message that the broker refused counts as confirmed",
        WINDOW,
        "        is_refused = isinstance(method, pika.spec.Basic.Nack)\n",
        "        is_refused = False\n",
    ),
    Mutant(
        "mandatory is off",
        WINDOW,
        "properties, mandatory=True",
        "properties, mandatory=False",
    ),
    Mutant(
        "attempts are not counted",
        "runner/worker/retry.py",
        "        headers[ATTEMPT] = message.attempt + 1\n",
        "        headers[ATTEMPT] = message.attempt\n",
    ),
    Mutant(
        "a crashing message is never dead-lettered",
        "runner/worker/crash_protection.py",
        "        if crashing is not None and crashing.deaths >= self._max_crashes:",
        "        if False:",
    ),
    Mutant(
        "all unacked messages are blamed",
        "runner/supervisor/crash_blame.py",
        "(0, 1, 0) if is_outside else (0, 0, 1) if is_shared else (1, 0, 0)",
        "(1, 0, 0)",
    ),
    Mutant(
        "a failed message is acknowledged without its dead letter",
        PIPELINE,
        "        self._feed(one, DeliveryEvent.DEAD_LETTER if failure.delay is None else DeliveryEvent.RETRY)",
        "        self._ack(one) if failure.delay is None else self._feed(one, DeliveryEvent.RETRY)",
    ),
    Mutant(
        "a message is copied after its connection is lost",
        PIPELINE,
        "        if not one.delivery.is_alive:\n",
        "        if False:\n",
    ),
    Mutant(
        "an unroutable event counts as published",
        DELIVERY,
        "    (S.PUBLISHING, E.UNROUTABLE): (S.FAILED, A.QUEUE),",
        "    (S.PUBLISHING, E.UNROUTABLE): (S.RECORDING, A.RECORD),",
    ),
    Mutant(
        "an unconfirmed message is not published again",
        DELIVERY,
        "    (S.PUBLISHING, E.UNCONFIRMED): (S.PUBLISHING, A.PUBLISH_LATER),",
        "    (S.PUBLISHING, E.UNCONFIRMED): (S.RECORDING, A.RECORD),",
    ),
    Mutant(
        "the last confirm counts for all messages",
        DELIVERY,
        "        if not self.unconfirmed:\n",
        "        if error is None:\n",
    ),
]
