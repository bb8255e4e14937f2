"""The parts of a topology that exist on the broker, whatever an edited file says."""

from __future__ import annotations

from runner.ledger.live_topology import dead_letter_queues, own_queues, unapplied, with_live_bindings
from runner.topology.live import Live, LiveBinding, LiveQueue, Owned
from runner.topology.model import Binding, Exchange, Objects, Queue, RetryDelays

OLD, NEW = Binding("orders", "pay", routing_key="created.#"), Binding("orders", "pay", routing_key="created.usd")
OBJECTS = Objects(
    exchanges=(Exchange("orders", "topic"),),
    queues=tuple(map(Queue, ("pay", "pay.retry.1s", "pay.dead"))),
    bindings=(NEW,),
    retry_delays={"pay": RetryDelays(((1.0, "pay.retry.1s"),), "pay.dead")},
)


def live(*bindings: Binding, queues: tuple[str, ...] = (), owned: Owned | None = None) -> Live:
    found = {one.key: LiveBinding(one) for one in bindings}
    ours = owned or Owned(bindings=frozenset(found), queues=frozenset(queues))
    return Live(queues={name: LiveQueue(Queue(name)) for name in queues}, bindings=found, owned=ours)


def test_an_edit_of_bindings_counts_only_after_it_is_applied() -> None:
    assert with_live_bindings(OBJECTS, live(OLD)).bindings == (OLD,)
    assert [*unapplied(OBJECTS, live(OLD))] == [
        "binding orders -(created.usd)-> pay: not applied yet, and therefore ignored",
        "binding orders -(created.#)-> pay: not in topology.yaml but still on the broker, and therefore included",
    ]
    assert with_live_bindings(OBJECTS, live(NEW)).bindings == (NEW,)
    assert [*unapplied(OBJECTS, live(NEW))] == []


def test_a_binding_that_disappeared_with_its_queue_still_counts() -> None:
    there = live(owned=Owned(bindings=frozenset({NEW.key})))
    assert with_live_bindings(OBJECTS, there).bindings == (NEW,)


def test_if_the_broker_remembers_no_topology_the_file_is_used() -> None:
    assert with_live_bindings(OBJECTS, Live()) == OBJECTS
    assert [*unapplied(OBJECTS, Live())] == []


def test_an_exchange_that_left_the_file_still_gets_messages_through_its_bindings() -> None:
    way = (Binding("orders", "old", "exchange", "#"), Binding("old", "pay"))
    there = Live(
        exchanges={"old": Exchange("old", "fanout")},
        bindings={one.key: LiveBinding(one) for one in way},
        owned=Owned(bindings=frozenset(one.key for one in way)),
    )
    found = with_live_bindings(OBJECTS, there)
    assert {one.name for one in found.exchanges} == {"orders", "old"}
    assert sorted(one.source for one in found.bindings) == ["old", "orders"]


def test_retry_queues_of_former_delays_and_queues_set_aside_by_a_replacement_belong_to_their_queue() -> None:
    names = ("pay", "pay.drain.old", "pay.retry.1s", "pay.retry.10m", "pay.retry.10m.drain.new", "other.retry.5s")
    there = live(
        queues=names, owned=Owned(queues=frozenset({"pay", "pay.retry.1s", "pay.retry.10m", "other.retry.5s"}))
    )
    assert own_queues("pay", OBJECTS, there) == (
        "pay", "pay.drain.old", "pay.retry.1s", "pay.retry.10m", "pay.retry.10m.drain.new"
    )  # fmt: skip
    assert own_queues("pay", OBJECTS, Live()) == ("pay", "pay.retry.1s")


def test_dead_letter_queues_that_left_the_file_may_still_contain_dead_letters() -> None:
    names = ("pay", "pay.retry.10m", "pay.dlq", "pay.dead", "pay.dead.drain.old", "counter", "of.others")
    ours = Owned(queues=frozenset(names) - {"of.others"})
    there = live(Binding("orders", "counter"), queues=names, owned=ours)
    origins = {"pay.dead": ("pay",)}
    assert dead_letter_queues(OBJECTS, origins, there) == {**origins, "pay.dead.drain.old": ("pay",), "pay.dlq": ()}
