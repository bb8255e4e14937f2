"""What stands under ``retire``: the only things of a broker that are deleted, and only when nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from runner.config.topology import Retire
from runner.topology.change import Change, Mark, Plan
from runner.topology.compile import policy_name
from runner.topology.live import Live, Owned
from runner.topology.model import Binding, Exchange, Objects, Queue

_WITH_QUEUE = "goes with its queue"


def retired(objects: Objects, live: Live, retire: Retire) -> Iterator[Change]:
    """What would be deleted, with what belongs to it alone: a queue's bindings of ours, wait queues and policy.

    In the order of the deletion: what brings messages first, so that a queue can become empty.
    """
    needed = {one.name for one in objects.queues} | {one.name for one in objects.exchanges}
    queues = [name for name in retire.queues if name in live.queues and name not in needed]
    for key in sorted(live.owned.bindings & live.bindings.keys()):
        if key[1] == "queue" and key[2] in queues:
            yield Change(Mark.RETIRE, live.bindings[key].binding, _WITH_QUEUE)
    waiting = [
        name
        for queue in queues
        for name in sorted(live.owned.queues & live.queues.keys())
        if name.startswith(f"{queue}.retry.") and name not in needed and name not in queues
    ]
    for name in queues:
        there = live.queues[name]
        yield Change(Mark.RETIRE, there.queue, "", there.messages, there.consumers)
    for name in waiting:
        there = live.queues[name]
        yield Change(Mark.RETIRE, there.queue, _WITH_QUEUE, there.messages, there.consumers)
    exchanges = [name for name in retire.exchanges if name in live.exchanges and name not in needed]
    for name in exchanges:
        yield Change(Mark.RETIRE, live.exchanges[name])
    generated = [policy_name("queue", name) for name in queues] + [policy_name("exchange", name) for name in exchanges]
    for name in (*retire.policies, *generated):
        if name in live.policies:
            yield Change(
                Mark.RETIRE, live.policies[name], "" if name in retire.policies else "goes with what it is for"
            )


def delete(
    plan: Plan, live: Live, delete_one: Callable[[Change], str | None], say: Callable[[str], None]
) -> tuple[Owned, list[tuple[Change, str]]]:
    """Delete all that can be; returns what is gone, and what was kept with the reason.

    ``delete_one`` deletes one thing, or says why it is kept.
    """
    gone: dict[str, set[str]] = {"queue": set(), "exchange": set(), "policy": set()}
    keys = set()
    kept: list[tuple[Change, str]] = []
    stay: set[str] = set()
    for change in plan.of(Mark.RETIRE):
        thing = change.thing
        if isinstance(thing, Queue) and any(change.name.startswith(f"{name}.retry.") for name in stay):
            continue  # its queue still needs it
        if not isinstance(thing, Binding | Queue | Exchange) and any(
            change.name == policy_name("queue", name) for name in stay
        ):
            continue
        reason = delete_one(change)
        if reason is not None:
            kept.append((change, reason))
            stay.add(change.name)
            continue
        say(f"deleted {change.kind} {change.name}")
        if isinstance(thing, Binding):
            keys.add(thing.key)
        else:
            gone[change.kind].add(change.name)
    names = {kind: frozenset(some) for kind, some in gone.items()}
    return Owned(names["exchange"], names["queue"], names["policy"], frozenset(keys)), kept
