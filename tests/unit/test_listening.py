"""The close of a listening socket that several processes share, without a reset."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Iterator

import pytest

from runner.ipc.listening import (
    drop_new_connections,
    give_up,
    has_handshakes,
    has_waiting,
    is_given_up,
    listening_socket,
)
from tests.rabbit import wait_until

#: asm-generic/socket.h
SO_DETACH_FILTER = 27


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return a socket that listens on loopback and one that listens on every address, with the same port."""
    with listening_socket("127.0.0.1", 0) as old:
        old.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with listening_socket("0.0.0.0", old.getsockname()[1], reuse=True) as new:
            yield old, new


def connecting(listener: socket.socket) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    assert client.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    return client


def is_connected(client: socket.socket) -> bool:
    poll = select.poll()
    poll.register(client, select.POLLOUT)
    return bool(poll.poll(0)) and client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_all_processes_with_the_socket_see_that_it_is_given_up(host: str) -> None:
    try:
        listener = listening_socket(host, 0)
    except OSError as error:
        pytest.skip(f"no such loopback: {error}")
    with listener, listener.dup() as other:
        assert not is_given_up(other)
        give_up(listener)
        assert is_given_up(other)


def test_a_waiting_client_is_accepted_and_a_later_one_gets_the_other_socket(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    old, new = sockets
    with socket.create_connection(old.getsockname(), 5) as waiting:
        drop_new_connections(old)
        with connecting(old) as late:
            assert has_waiting(old)
            accepted, _ = old.accept()
            with accepted:
                assert not has_waiting(old)
                assert not has_handshakes(old)
                old.close()
                waiting.sendall(b"hello")
                wait_until(lambda: is_connected(late), 10)
                wait_until(lambda: has_waiting(new), 10)
                accepted.setblocking(True)
                assert accepted.recv(5) == b"hello"


def test_a_client_that_has_begun_to_connect_is_accepted() -> None:
    with listening_socket("0.0.0.0", 0) as listener, socket.socket() as client:
        assert not has_handshakes(listener)
        drop_new_connections(client)  # the filter drops the response, so that the handshake stays incomplete
        client.setblocking(False)
        assert client.connect_ex(("127.0.0.1", listener.getsockname()[1])) == errno.EINPROGRESS
        wait_until(lambda: has_handshakes(listener), 5)
        drop_new_connections(listener)
        client.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        wait_until(lambda: has_waiting(listener), 10)
        assert not has_handshakes(listener)
