"""Listening sockets that outlive the processes that use them."""

from __future__ import annotations

import socket

import pytest

from runner.ipc.listening import is_given_up
from runner.supervisor.processes.listener import Listeners


@pytest.fixture
def listeners():
    one = Listeners()
    yield one
    one.close()


def is_open(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_all_owners_share_one_socket_for_an_address(listeners: Listeners) -> None:
    first = listeners.get("api", "a", "127.0.0.1 0")
    assert listeners.get("api", "b", "127.0.0.1 0") is first
    assert listeners.get("other", "c", "127.0.0.1 0") is not first


def test_it_is_open_until_no_owner_uses_it(listeners: Listeners) -> None:
    listener = listeners.get("api", "a", "127.0.0.1 0")
    address = listener.getsockname()
    listeners.get("api", "b", "127.0.0.1 0")
    listeners.keep_only("a", set())
    assert is_open(address)
    listeners.keep_only("b", {"127.0.0.1 0"})
    assert is_open(address)
    listeners.keep_only("b", set())
    assert not is_open(address)


def test_an_owner_that_moves_to_another_port_releases_the_first(listeners: Listeners) -> None:
    listener = listeners.get("api", "a", "127.0.0.1 0")
    address = listener.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    listeners.get("api", "a", f"127.0.0.1 {port}")
    assert is_open(address), "until the new process is ready"
    listeners.keep_only("a", {f"127.0.0.1 {port}"})
    assert not is_open(address)
    assert is_open(("127.0.0.1", port))


@pytest.mark.parametrize(("first", "then"), [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")])
def test_a_socket_whose_port_gets_another_socket_is_given_up(listeners: Listeners, first: str, then: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    with listeners.get("api", "old", f"{first} {port}").dup() as worker_s:
        listeners.get("api", "older", f"{first} {port}")
        listeners.get("api", "new", f"{then} {port}")
        listeners.keep_only("old", set())
        assert not is_given_up(worker_s), "another process uses it"
        listeners.keep_only("older", set())
        assert is_given_up(worker_s)
        assert not is_given_up(listeners.get("api", "new", f"{then} {port}"))


def test_a_socket_without_a_successor_is_only_closed(listeners: Listeners) -> None:
    with listeners.get("api", "a", "127.0.0.1 0").dup() as worker_s:
        listeners.get("api", "b", "0.0.0.0 0")
        listeners.keep_only("a", set())
        assert not is_given_up(worker_s), "port 0 is another port each time"


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1 http", "192.0.2.1 0"])
def test_an_address_that_cannot_be_used_is_an_error_of_the_system(listeners: Listeners, address: str) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        listeners.get("api", "a", address)
    assert caught.value.errno
