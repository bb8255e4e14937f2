"""The account of a queue: each published message is in one place or lost, and none is called lost by mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.ledger.account import Account, AccountedQueue
from runner.ledger.account_building import Known, KnownDeadLetter, accounts, refresh
from runner.ledger.expected_queues import ExpectedQueues
from runner.ledger.recorded_fates import Fate, InboxRows, Published
from runner.topology.live import Owned
from runner.topology.model import Binding, Exchange, Objects, Policy, Queue

OBJECTS = Objects(
    exchanges=(Exchange("orders", "topic"), Exchange("rest", "fanout"), Exchange("chosen", "headers")),
    queues=(Queue("pay"), Queue("rest.all"), Queue("vip")),
    bindings=(
        Binding("orders", "pay", routing_key="created.#"),
        Binding("rest", "rest.all"),
        Binding("chosen", "vip", arguments={"vip": True}),
    ),
    policies=(Policy("rest", "^orders$", "exchanges", {"alternate-exchange": "rest"}),),
)
SINCE = {one.key: 1000 for one in OBJECTS.bindings}
PAY = AccountedQueue("pay", ("payment",), "pay.dlq", known_from=0)


def event(id: str, at: int = 2000, key: str = "created", exchange: str = "orders", **more: Any) -> Published:
    return Published(id, f"order.{key}", f"of-{id}", at, exchange, key, **more)


def handled(*ends: int, replays: int = 0, at: int = 2000, service: str = "payment") -> Fate:
    tries = tuple((replays, end, service) for end in ends)
    return Fate("order.created", "o", at, bool(ends), tries, tried=(replays, 1))


def known(*events: Published, **more: Any) -> Known:
    filled: dict[str, Any] = {"audited": frozenset(), "fates": {}, "inboxes": {}, "dead_letters": {}, **more}
    return Known({one.id: one for one in events}, **filled)


def account_of(
    what: Known, place: AccountedQueue = PAY, since: Mapping[Any, int] = SINCE, begun: int | None = None, **more: Any
) -> Account:
    (account,) = accounts([place], what, ExpectedQueues(OBJECTS, since, begun), **more)
    return account


def figures(account: Account) -> dict[str, tuple[Any, ...]]:
    return {
        one.type: (one.published, one.handled, one.dead_lettered, one.discarded, one.waiting, one.lost, one.twice)
        for one in account.rows()
    }


def test_each_message_counts_once_wherever_it_is() -> None:
    fates = {"handled": handled(9), "both": handled(9), "retried": handled()}
    fates["discarded"] = Fate("", None, 0, discarded=(0, 2))
    dead_letters = {one: KnownDeadLetter("order.created", None) for one in ("dead", "both")}
    names = (*fates, "dead", "missing")
    account = account_of(known(*map(event, names), fates={"pay": fates}, dead_letters={"pay": dead_letters}))
    assert figures(account) == {"order.created": (6, 2, 1, 1, 2, 0, 0)}
    assert account.missing == ["missing", "retried"]


def test_missing_messages_wait_up_to_the_number_of_waiting_messages_and_the_others_are_lost() -> None:
    account = account_of(known(event("new", 3000), event("old", 2000), event("newest", 4000)))
    account.lose(3)
    assert account.lost == []
    account.lose(7)
    assert account.lost == []
    account.lose(1)
    assert account.lost == ["old", "new"]
    assert account.candidates == ["old", "new", "newest"]
    assert figures(account) == {"order.created": (3, 0, 0, 0, 1, 2, 0)}
    account.lose(0)
    assert (len(account.lost), account.candidates) == (3, []), "if no message waits, the lost ones are known"


@given(st.dictionaries(st.text(max_size=3), st.sampled_from("hpdm"), max_size=20), st.integers(0, 30))
def test_the_figures_always_add_up(fate_of: dict[str, str], waiting: int) -> None:
    fates = {
        id: Fate("order.created", None, 2000, one == "h", discarded=(0, int(one == "d")))
        for id, one in fate_of.items()
        if one in "hd"
    }
    dead_letters = {id: KnownDeadLetter("", None) for id, one in fate_of.items() if one == "p"}
    account = account_of(known(*map(event, fate_of), fates={"pay": fates}, dead_letters={"pay": dead_letters}))
    account.lose(waiting)
    missing = sum(one == "m" for one in fate_of.values())
    assert len(account.lost) == max(0, missing - waiting)
    for row in account.rows():
        assert row.published == (row.handled or 0) + row.dead_lettered + row.discarded + (row.waiting or 0) + row.lost


def test_an_event_counts_for_a_queue_from_the_time_of_its_binding() -> None:
    events = (event("before", 999), event("after", 1000), event("elsewhere", key="deleted"))
    account = account_of(known(*events))
    assert [*account.entries] == ["after"]
    assert account.notes == ["1 event not counted: published before the binding existed, and not handled"]


def test_after_the_broker_lost_its_data_counting_starts_at_the_first_event_that_the_database_knows_there() -> None:
    events = (event("a", 10), event("b", 20), event("c", 30), event("other", 40, "created.late"))
    fates = {"pay": {"b": handled(21, at=20)}}
    account = account_of(known(*events, fates=fates), begun=1000)
    assert {*account.entries} == {"b", "c"}
    assert account.missing == ["c"]
    assert account.notes == ["2 events not counted: published before the binding existed, and not handled"]
    # A broker that remembers older bindings: this binding was removed and added again, and brought no events in
    # between.
    account = account_of(known(*events, fates=fates), begun=5)
    assert {*account.entries} == {"b"}
    assert account.notes == ["3 events not counted: published before the binding existed, and not handled"]


def test_an_unconfirmed_event_of_an_outbox_is_not_published_yet_although_audit_has_it() -> None:
    account = account_of(known(event("a"), event("b"), audited=frozenset("ab"), unsent=frozenset("b")))
    assert [*account.entries] == ["a"]
    assert account.notes == ["1 event not counted: not confirmed yet, and still waiting in the outbox"]
    account = account_of(known(event("b"), fates={"pay": {"b": handled(9)}}, unsent=frozenset("b")))
    assert account.handled == {"b"}, "the messages of the queue are counted"


def test_without_remembered_bindings_counting_starts_at_the_first_known_event_of_the_type() -> None:
    events = (event("a", 10), event("b", 20), event("c", 30), event("other", 40, "created.late"))
    account = account_of(known(*events, fates={"pay": {"b": handled(21, at=20)}}), since={})
    assert {*account.entries} == {"b", "c"}
    assert "2 events not counted: the age of the binding is unknown" in account.notes[0]
    assert account_of(known(*events), since={}).entries == {}


def test_events_that_headers_route_are_reported_as_unknown() -> None:
    assert ExpectedQueues(OBJECTS, SINCE).of("chosen", "x") == {}
    seen = {"vip": {"tried": handled(9)}}
    account = account_of(
        known(event("untold", exchange="chosen"), fates=seen), AccountedQueue("vip", ("vips",), known_from=0)
    )
    assert [*account.entries] == ["tried"]
    assert account.notes == [
        "the routing to this queue depends on headers or a plugin, so only attempted and dead-lettered messages"
        " count as published"
    ]


def test_events_from_before_attempts_were_recorded_do_not_count() -> None:
    place = AccountedQueue("pay", ("payment",), known_from=2500)
    account = account_of(known(event("early", 2000), event("late", 3000), event("seen", 2000), fates={
        "pay": {"seen": handled(2600)}
    }), place)  # fmt: skip
    assert {*account.entries} == {"late", "seen"}
    assert account.notes == ["1 event not counted: published when handled messages were not recorded yet"]


def test_without_a_record_of_handled_messages_none_is_called_lost() -> None:
    account = account_of(known(event("a")), AccountedQueue("pay", ("payment",)))
    account.lose(0)
    assert figures(account) == {"order.created": (1, None, 0, 0, None, 0, 0)}


def test_an_inbox_counts_handled_messages_and_their_events_count_when_they_are_sent() -> None:
    inboxes = {("payment", "pay"): InboxRows(1, {"a": 1}), ("other", "pay"): InboxRows(1, {"b": 1})}
    account = account_of(known(event("a"), event("b"), event("c", maker=("pay", "a")), inboxes=inboxes))
    assert account.handled == {"a"}
    account.pending = {"c"}
    assert account.missing == ["b"]
    assert figures(account) == {"order.created": (2, 1, 0, 0, 1, 0, 0)}


def test_for_audit_itself_a_recorded_event_is_handled() -> None:
    place = AccountedQueue("pay", ("audit",), is_audit=True, known_from=0)
    account = account_of(known(event("a", 5), event("b"), audited=frozenset({"a"})), place, since={})
    assert figures(account) == {"order.created": (2, 1, 0, 0, 1, 0, 0)}


def test_a_message_that_a_service_consumes_from_the_dead_letter_queue_has_left_the_queue() -> None:
    account = account_of(known(event("a"), fates={"pay.dlq": {"a": handled()}}))
    assert figures(account) == {"order.created": (1, 0, 1, 0, 0, 0, 0)}


@pytest.mark.parametrize(
    ("fate", "twice", "wrong"),
    [
        (handled(5), 0, 0),
        (handled(5, 6), 1, 0),
        (handled(15, 16), 1, 1),
        (handled(5, 60), 1, 1),
        (handled(5, 19), 1, 0),
    ],
)
def test_handled_twice_is_an_error_only_if_an_inbox_knew_the_first_time(fate: Fate, twice: int, wrong: int) -> None:
    place = AccountedQueue("pay", ("payment",), known_from=0, inboxes=("payment",))
    inboxes = {("payment", "pay"): InboxRows(10, {"a": 20})}
    account = account_of(known(event("a"), fates={"pay": {"a": fate}}, inboxes=inboxes), place)
    assert (len(account.twice), len(account.wrong)) == (twice, wrong)


def test_a_replay_does_not_count_as_handled_twice() -> None:
    assert not Fate("", None, 0, True, handled=((0, 5, "a"), (1, 6, "a"))).is_twice()
    assert Fate("", None, 0, True, handled=((0, 5, "a"), (1, 6, "a"), (1, 7, "a"))).is_twice()


def test_two_services_that_consume_one_queue_are_counted_by_their_own_inboxes() -> None:
    place = AccountedQueue("pay", ("payment", "other"), known_from=0, inboxes=("payment", "other"))
    inboxes = {(name, "pay"): InboxRows(1, {"a": 6}) for name in place.services}
    fate = handled(5)
    fate.handled += ((0, 9, "other"),)
    account = account_of(known(event("a"), fates={"pay": {"a": fate}}, inboxes=inboxes), place)
    assert (account.twice, account.wrong) == ({"a"}, set())
    fate.handled += ((0, 12, "other"),)
    account = account_of(known(event("a"), fates={"pay": {"a": fate}}, inboxes=inboxes), place)
    assert (account.twice, account.wrong) == ({"a"}, {"a"})


def test_a_message_with_an_attempt_after_its_discard_was_not_discarded() -> None:
    assert Fate("", None, 0, tried=(0, 3), discarded=(0, 4)).is_discarded
    assert not Fate("", None, 0, tried=(1, 1), discarded=(0, 4)).is_discarded
    assert not Fate("", None, 0, tried=(0, 3)).is_discarded
    again = Fate("order.created", "o", 2000, tried=(1, 1), discarded=(0, 4))
    assert account_of(known(event("a"), fates={"pay": {"a": again}})).missing == ["a"]


def test_a_further_look_adds_outcomes_of_messages_and_forgets_none() -> None:
    account = account_of(known(event("a"), event("b"), event("c"), fates={"pay": {"a": handled(9, 9)}}))
    refresh(account, known(fates={"pay": {"b": handled(9)}}, dead_letters={"pay": {"c": KnownDeadLetter("", None)}}))
    assert figures(account) == {"order.created": (3, 2, 1, 0, 0, 0, 1)}
    refresh(account, known(fates={"pay": {}}))
    assert account.missing == ["c"], "it was replayed, and is on its way"


def test_only_recent_events_count_if_a_period_is_given() -> None:
    what = known(event("old"), event("new", 5000), fates={"pay": {"old": handled(9), "unknown": handled(9, at=2000)}})
    assert {*account_of(what).entries} == {"old", "new", "unknown"}
    (account,) = accounts([PAY], what, ExpectedQueues(OBJECTS, SINCE), 4000)
    assert {*account.entries} == {"new"}


def test_a_binding_keeps_its_first_time_and_a_new_binding_gets_its_own() -> None:
    old, new = OBJECTS.bindings[0].key, OBJECTS.bindings[1].key
    before = Owned(bindings=frozenset({old})).dated(Owned(), 5)
    after = Owned(bindings=frozenset({old, new})).dated(before, 9)
    assert after.since == {old: 5, new: 9}
    assert Owned.from_json(after.to_json()).since == after.since
    # A version without times wrote this.
    older = {name: value for name, value in after.to_json().items() if name != "since"}
    assert Owned.from_json(older).dated(Owned.from_json(older), 11).since == {}
