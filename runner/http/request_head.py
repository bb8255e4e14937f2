"""Request heads. Plain heads are parsed quickly, and heads that state the body's length more than once are refused.

Two programs that disagree about the end of a request also disagree about the start of the next request. Attackers use
such disagreements to smuggle requests past a proxy (RFC 9112, section 11.2).
"""

from __future__ import annotations

import re

#: The format of the heads that most clients send. waitress's parser reads all other heads.
_PLAIN = re.compile(
    rb"([A-Z]+) (/[A-Za-z0-9/._~-]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[ \t]*[!-~][ -~\t]*\r\n)*)\r\n", re.ASCII
)
_FIELD = re.compile(r"([^:]+):[ \t]*([^\r]+)\r\n")
#: The headers that a plain head does not contain.
_UNUSUAL = frozenset({"EXPECT", "TRANSFER_ENCODING"})
#: The maximum number of digits in a plain Content-Length.
_LENGTH_DIGITS = 8


def read_plain(head: bytes) -> tuple[str, str, dict[str, str], int] | None:
    """Return the method, path, headers and body length from a plain head, or None for any other head.

    waitress would return the same result. Header names are in upper case, with ``_`` instead of ``-``.
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
    """Return True if the head contains Transfer-Encoding. Raises ValueError if several headers state the length."""
    lines = head.split(b"\r\n")[1:]
    if any(line.startswith((b" ", b"\t")) for line in lines):
        raise ValueError("a header is folded across several lines")
    names = [line.partition(b":")[0].strip().lower() for line in lines]
    if names.count(b"content-length") > 1:
        raise ValueError("more than one Content-Length")
    is_encoded = b"transfer-encoding" in names
    if is_encoded and (b"content-length" in names or names.count(b"transfer-encoding") > 1):
        raise ValueError("several headers state the length of the body")
    return is_encoded
