"""The head of a request: read in one go if it is plain, refused if the end of its body is not stated in one way alone.

Two programs that disagree about the end of a request disagree about the beginning of the next one, which is how
requests are smuggled past a proxy (RFC 9112, section 11.2).
"""

from __future__ import annotations

import re

#: A head as most clients write it. waitress's parser reads all other heads.
_PLAIN = re.compile(
    rb"([A-Z]+) (/[A-Za-z0-9/._~-]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[ \t]*[!-~][ -~\t]*\r\n)*)\r\n", re.ASCII
)
_FIELD = re.compile(r"([^:]+):[ \t]*([^\r]+)\r\n")
#: Headers that ask for more than that.
_UNUSUAL = frozenset({"EXPECT", "TRANSFER_ENCODING"})
#: Digits of a plain Content-Length.
_LENGTH_DIGITS = 8


def read_plain(head: bytes) -> tuple[str, str, dict[str, str], int] | None:
    """Return method, path, headers and body's length of a head that is plain in every way; None for any other.

    The result is waitress's. Names of headers are in upper case, with ``_`` for ``-``.
    """
    plain = _PLAIN.fullmatch(head)
    if plain is None:
        return None
    fields = _FIELD.findall(plain[3].decode())
    headers = {name.upper().replace("-", "_"): value.rstrip(" \t") for name, value in fields}
    length = headers.get("CONTENT_LENGTH", "0")
    if len(headers) < len(fields) or not headers.keys().isdisjoint(_UNUSUAL):
        return None
    if not length.isdigit() or len(length) > _LENGTH_DIGITS:
        return None
    return plain[1].decode(), plain[2].decode(), headers, int(length)


def has_transfer_encoding(head: bytes) -> bool:
    """Return True if Transfer-Encoding states the body's end. Raises ValueError if it is stated more than once."""
    lines = head.split(b"\r\n")[1:]
    if any(line.startswith((b" ", b"\t")) for line in lines):
        raise ValueError("a header is folded over several lines")
    names = [line.partition(b":")[0].strip().lower() for line in lines]
    if names.count(b"content-length") > 1:
        raise ValueError("more than one Content-Length")
    is_encoded = b"transfer-encoding" in names
    if is_encoded and (b"content-length" in names or names.count(b"transfer-encoding") > 1):
        raise ValueError("more than one statement of the body's length")
    return is_encoded
