"""Files from outside are read with limits."""

import errno
import io
import os
import pickle
import threading
from pathlib import Path

import pytest

from runner.bounded_file import FileTooLarge, read_bounded

LIMIT = 200_000


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, LIMIT])
def test_a_file_up_to_the_limit_is_read_completely(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    assert read_bounded(path, LIMIT) == path.read_bytes()
    with path.open("rb") as stream:
        assert read_bounded(stream, LIMIT) == path.read_bytes()


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/full", "/dev/urandom"])
def test_an_endless_device_is_refused_at_the_limit(name):
    with pytest.raises(FileTooLarge, match=f"larger than {LIMIT} bytes") as caught:
        read_bounded(Path(name), LIMIT)
    assert caught.value.limit == LIMIT
    with Path(name).open("rb") as stream, pytest.raises(FileTooLarge):
        read_bounded(stream, LIMIT)


def test_a_file_one_byte_over_the_limit_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(FileTooLarge):
        read_bounded(path, LIMIT)
    with pytest.raises(FileTooLarge):
        read_bounded(io.BytesIO(path.read_bytes()), LIMIT)


def test_a_sparse_file_is_not_read_past_the_limit(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileTooLarge):
        read_bounded(path, LIMIT)


def test_an_empty_device_has_no_bytes():
    assert read_bounded(Path(os.devnull), LIMIT) == b""


def test_a_pipe_without_a_writer_is_given_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TimeoutError, match=r"no data arrived within 0\.01 s"):
        read_bounded(tmp_path / "pipe", LIMIT, timeout=0.01)


def test_a_pipe_with_a_silent_writer_is_given_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        with pytest.raises(TimeoutError):
            read_bounded(tmp_path / "pipe", LIMIT, timeout=0.01)
    finally:
        os.close(writer)


def test_a_pipe_is_read_until_its_writer_closes_it(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"x" * LIMIT,))
    writer.start()
    try:
        assert read_bounded(path, LIMIT, timeout=30) == b"x" * LIMIT
    finally:
        writer.join()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: None, FileNotFoundError),
        (lambda path: path.mkdir(), IsADirectoryError),
        (lambda path: path.symlink_to(path), OSError),
    ],
)
def test_a_path_without_a_file_is_an_error_of_the_system(tmp_path, make, kind):
    make(tmp_path / "file")
    with pytest.raises(kind) as caught:
        read_bounded(tmp_path / "file", LIMIT)
    assert caught.value.strerror


def test_the_error_is_the_same_in_another_process():
    error = pickle.loads(pickle.dumps(FileTooLarge(5)))
    assert (error.limit, error.errno, str(error)) == (5, errno.EFBIG, str(FileTooLarge(5)))
