"""The account of a queue: what was published is somewhere, or lost, and nothing is called lost by mistake."""

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
    filled: dict[str, Any] = {"audited": frozenset(), "fates": {}, "inboxes": {}, "parked": {}, **more}
    return Known({one.id: one for one in events}, **filled)


def told(
    what: Known, place: AccountedQueue = PAY, since: Mapping[Any, int] = SINCE, begun: int | None = None, **more: Any
) -> Account:
    (account,) = accounts([place], what, ExpectedQueues(OBJECTS, since, begun), **more)
    return account


def figures(account: Account) -> dict[str, tuple[Any, ...]]:
    return {
        one.type: (one.published, one.handled, one.parked, one.discarded, one.waiting, one.lost, one.twice)
        for one in account.rows()
    }


def test_each_message_counts_once_wherever_it_is() -> None:
    fates = {"handled": handled(9), "both": handled(9), "retried": handled()}
    fates["discarded"] = Fate("", None, 0, discarded=(0, 2))
    parked = {one: KnownDeadLetter("order.created", None) for one in ("parked", "both")}
    names = (*fates, "parked", "missing")
    account = told(known(*map(event, names), fates={"pay": fates}, parked={"pay": parked}))
    assert figures(account) == {"order.created": (6, 2, 1, 1, 2, 0, 0)}
    assert account.missing == ["missing", "retried"]


def test_what_is_missing_waits_as_far_as_something_waits_and_beyond_that_is_lost_and_candidates_are_all() -> None:
    account = told(known(event("new", 3000), event("old", 2000), event("newest", 4000)))
    account.lose(3)
    assert account.lost == []
    account.lose(7)
    assert account.lost == []
    account.lose(1)
    assert account.lost == ["old", "new"]
    assert account.candidates == ["old", "new", "newest"]
    assert figures(account) == {"order.created": (3, 0, 0, 0, 1, 2, 0)}
    account.lose(0)
    assert (len(account.lost), account.candidates) == (3, []), "where nothing waits, it is known which"


@given(st.dictionaries(st.text(max_size=3), st.sampled_from("hpdm"), max_size=20), st.integers(0, 30))
def test_the_figures_always_add_up(fate_of: dict[str, str], waiting: int) -> None:
    fates = {
        id: Fate("order.created", None, 2000, one == "h", discarded=(0, int(one == "d")))
        for id, one in fate_of.items()
        if one in "hd"
    }
    parked = {id: KnownDeadLetter("", None) for id, one in fate_of.items() if one == "p"}
    account = told(known(*map(event, fate_of), fates={"pay": fates}, parked={"pay": parked}))
    account.lose(waiting)
    missing = sum(one == "m" for one in fate_of.values())
    assert len(account.lost) == max(0, missing - waiting)
    for row in account.rows():
        assert row.published == (row.handled or 0) + row.parked + row.discarded + (row.waiting or 0) + row.lost


def test_an_event_counts_for_a_queue_from_when_its_binding_is_there() -> None:
    events = (event("before", 999), event("after", 1000), event("elsewhere", key="deleted"))
    account = told(known(*events))
    assert [*account.entries] == ["after"]
    assert account.notes == ["1 published before the binding was there, and not handled: not counted"]


def test_where_the_brokers_data_was_made_anew_it_counts_from_the_first_that_the_database_knows_there() -> None:
    events = (event("a", 10), event("b", 20), event("c", 30), event("other", 40, "created.late"))
    fates = {"pay": {"b": handled(21, at=20)}}
    account = told(known(*events, fates=fates), begun=1000)
    assert {*account.entries} == {"b", "c"}
    assert account.missing == ["c"]
    assert account.notes == ["2 published before the binding was there, and not handled: not counted"]
    # A binding that was taken out and put back, on a broker that remembers older ones, brought nothing meanwhile.
    account = told(known(*events, fates=fates), begun=5)
    assert {*account.entries} == {"b"}
    assert account.notes == ["3 published before the binding was there, and not handled: not counted"]


def test_what_an_outbox_has_no_confirm_of_is_not_published_yet_though_audit_got_it() -> None:
    account = told(known(event("a"), event("b"), audited=frozenset("ab"), unsent=frozenset("b")))
    assert [*account.entries] == ["a"]
    assert account.notes == ["1 more are not counted: the outbox has no confirm of them yet, and sends them again"]
    account = told(known(event("b"), fates={"pay": {"b": handled(9)}}, unsent=frozenset("b")))
    assert account.handled == {"b"}, "what came to the queue is there"


def test_where_that_is_not_remembered_it_counts_from_the_first_of_its_type_that_is_known_there() -> None:
    events = (event("a", 10), event("b", 20), event("c", 30), event("other", 40, "created.late"))
    account = told(known(*events, fates={"pay": {"b": handled(21, at=20)}}), since={})
    assert {*account.entries} == {"b", "c"}
    assert "2 more may have come here and are not counted" in account.notes[0]
    assert told(known(*events), since={}).entries == {}


def test_what_headers_choose_is_said_not_to_be_known() -> None:
    assert ExpectedQueues(OBJECTS, SINCE).of("chosen", "x") == {}
    seen = {"vip": {"tried": handled(9)}}
    account = told(
        known(event("untold", exchange="chosen"), fates=seen), AccountedQueue("vip", ("vips",), known_from=0)
    )
    assert [*account.entries] == ["tried"]
    assert account.notes == ["headers choose what comes here: only what was tried or parked is counted as published"]


def test_what_was_published_before_tries_were_written_down_does_not_count() -> None:
    place = AccountedQueue("pay", ("payment",), known_from=2500)
    account = told(known(event("early", 2000), event("late", 3000), event("seen", 2000), fates={
        "pay": {"seen": handled(2600)}
    }), place)  # fmt: skip
    assert {*account.entries} == {"late", "seen"}
    assert account.notes == ["1 more are not counted: what was handled was not written down yet then"]


def test_where_nothing_tells_what_is_handled_nothing_is_called_lost() -> None:
    account = told(known(event("a")), AccountedQueue("pay", ("payment",)))
    account.lose(0)
    assert figures(account) == {"order.created": (1, None, 0, 0, None, 0, 0)}


def test_an_inbox_tells_what_is_handled_and_what_it_made_counts_once_that_is_sent() -> None:
    inboxes = {("payment", "pay"): InboxRows(1, {"a": 1}), ("other", "pay"): InboxRows(1, {"b": 1})}
    account = told(known(event("a"), event("b"), event("c", maker=("pay", "a")), inboxes=inboxes))
    assert account.handled == {"a"}
    account.pending = {"c"}
    assert account.missing == ["b"]
    assert figures(account) == {"order.created": (2, 1, 0, 0, 1, 0, 0)}


def test_for_audit_itself_what_is_written_down_is_handled() -> None:
    place = AccountedQueue("pay", ("audit",), is_audit=True, known_from=0)
    account = told(known(event("a", 5), event("b"), audited=frozenset({"a"})), place, since={})
    assert figures(account) == {"order.created": (2, 1, 0, 0, 1, 0, 0)}


def test_what_a_service_takes_from_the_dead_letter_queue_has_left_the_queue() -> None:
    account = told(known(event("a"), fates={"pay.dlq": {"a": handled()}}))
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
def test_twice_is_wrong_only_where_an_inbox_knew_of_the_first_time(fate: Fate, twice: int, wrong: int) -> None:
    place = AccountedQueue("pay", ("payment",), known_from=0, inboxes=("payment",))
    inboxes = {("payment", "pay"): InboxRows(10, {"a": 20})}
    account = told(known(event("a"), fates={"pay": {"a": fate}}, inboxes=inboxes), place)
    assert (len(account.twice), len(account.wrong)) == (twice, wrong)


def test_a_replay_is_not_the_second_time() -> None:
    assert not Fate("", None, 0, True, handled=((0, 5, "a"), (1, 6, "a"))).is_twice()
    assert Fate("", None, 0, True, handled=((0, 5, "a"), (1, 6, "a"), (1, 7, "a"))).is_twice()


def test_two_services_that_read_one_queue_each_answer_for_their_own_inbox() -> None:
    place = AccountedQueue("pay", ("payment", "other"), known_from=0, inboxes=("payment", "other"))
    inboxes = {(name, "pay"): InboxRows(1, {"a": 6}) for name in place.services}
    fate = handled(5)
    fate.handled += ((0, 9, "other"),)
    account = told(known(event("a"), fates={"pay": {"a": fate}}, inboxes=inboxes), place)
    assert (account.twice, account.wrong) == ({"a"}, set())
    fate.handled += ((0, 12, "other"),)
    account = told(known(event("a"), fates={"pay": {"a": fate}}, inboxes=inboxes), place)
    assert (account.twice, account.wrong) == ({"a"}, {"a"})


def test_what_was_tried_again_after_it_was_noted_as_discarded_was_not_discarded() -> None:
    assert Fate("", None, 0, tried=(0, 3), discarded=(0, 4)).is_discarded
    assert not Fate("", None, 0, tried=(1, 1), discarded=(0, 4)).is_discarded
    assert not Fate("", None, 0, tried=(0, 3)).is_discarded
    again = Fate("order.created", "o", 2000, tried=(1, 1), discarded=(0, 4))
    assert told(known(event("a"), fates={"pay": {"a": again}})).missing == ["a"]


def test_a_further_look_adds_what_became_of_messages_and_forgets_nothing() -> None:
    account = told(known(event("a"), event("b"), event("c"), fates={"pay": {"a": handled(9, 9)}}))
    refresh(account, known(fates={"pay": {"b": handled(9)}}, parked={"pay": {"c": KnownDeadLetter("", None)}}))
    assert figures(account) == {"order.created": (3, 2, 1, 0, 0, 0, 1)}
    refresh(account, known(fates={"pay": {}}))
    assert account.missing == ["c"], "it was replayed, and is on its way"


def test_only_what_was_published_lately_counts_where_that_is_asked() -> None:
    what = known(event("old"), event("new", 5000), fates={"pay": {"old": handled(9), "unknown": handled(9, at=2000)}})
    assert {*told(what).entries} == {"old", "new", "unknown"}
    (account,) = accounts([PAY], what, ExpectedQueues(OBJECTS, SINCE), 4000)
    assert {*account.entries} == {"new"}


def test_a_binding_keeps_the_time_it_was_first_there_and_a_new_one_gets_its_own() -> None:
    old, new = OBJECTS.bindings[0].key, OBJECTS.bindings[1].key
    before = Owned(bindings=frozenset({old})).dated(Owned(), 5)
    after = Owned(bindings=frozenset({old, new})).dated(before, 9)
    assert after.since == {old: 5, new: 9}
    assert Owned.from_json(after.to_json()).since == after.since
    # Written by a version that knew no times.
    older = {name: value for name, value in after.to_json().items() if name != "since"}
    assert Owned.from_json(older).dated(Owned.from_json(older), 11).since == {}
