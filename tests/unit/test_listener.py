"""Listening sockets that outlive the processes that asked for them."""

from __future__ import annotations

import socket

import pytest

from runner.supervisor.process.listener import Listeners


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


def test_it_is_open_until_nobody_uses_it_any_more(listeners: Listeners) -> None:
    listener = listeners.get("api", "a", "127.0.0.1 0")
    address = listener.getsockname()
    listeners.get("api", "b", "127.0.0.1 0")
    listeners.keep_only("a", set())
    assert is_open(address)
    listeners.keep_only("b", {"127.0.0.1 0"})
    assert is_open(address)
    listeners.keep_only("b", set())
    assert not is_open(address)


def test_an_owner_that_moves_to_another_port_lets_the_first_one_go(listeners: Listeners) -> None:
    listener = listeners.get("api", "a", "127.0.0.1 0")
    address = listener.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    listeners.get("api", "a", f"127.0.0.1 {port}")
    assert is_open(address), "until the new process is ready"
    listeners.keep_only("a", {f"127.0.0.1 {port}"})
    assert not is_open(address)
    assert is_open(("127.0.0.1", port))


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1 http", "192.0.2.1 0"])
def test_what_cannot_be_listened_on_is_an_error_of_the_system(listeners: Listeners, address: str) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        listeners.get("api", "a", address)
    assert caught.value.errno
