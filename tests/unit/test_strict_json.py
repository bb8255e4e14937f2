"""Bodies are JSON as in RFC 8259: cases of JSONTestSuite (Nicolas Seriot), and further ones."""

from __future__ import annotations

from typing import Any

import pytest

from runner.strict_json import decode_json

#: The cases y_, which every reader accepts.
RIGHT: dict[bytes, Any] = {
    b"[[]   ]": [[]],
    b'[""]': [""],
    b"[]": [],
    b'["a"]': ["a"],
    b"[false]": [False],
    b'[null, 1, "1", {}]': [None, 1, "1", {}],
    b"[1\n]": [1],
    b" [1]": [1],
    b"[1,null,null,null,2]": [1, None, None, None, 2],
    b"[2] ": [2],
    b"[123e65]": [123 * 10**65],
    b"[0e+1]": [0],
    b"[0e1]": [0],
    b"[ 4]": [4],
    b"[-0]": [0],
    b"[-123]": [-123],
    b"[-1]": [-1],
    b"[1E22]": [10**22],
    b"[20e1]": [200],
    b"[123]": [123],
    b'{"asd":"sdf", "dfg":"fgh"}': {"asd": "sdf", "dfg": "fgh"},
    b'{"":0}': {"": 0},
    b'{"foo\\u0000bar": 42}': {"foo\0bar": 42},
    b'["\\u0060\\u012a\\u12AB"]': ["`\u012a\u12ab"],
    b'["\\uD801\\udc37"]': ["\U00010437"],
    b'["\\"\\\\\\/\\b\\f\\n\\r\\t"]': ['"\\/\b\f\n\r\t'],
    b'["a/*b*/c/*d//e"]': ["a/*b*/c/*d//e"],
    b'["\\u0012"]': ["\x12"],
    '["€𝄞"]'.encode(): ["€𝄞"],
    '["\u2028\u2029\x7f"]'.encode(): ["\u2028\u2029\x7f"],
    b'" "': " ",
    b"null": None,
    b"true": True,
    b"[true]\n": [True],
    b"\t[]\r\n": [],
}
#: The cases n_, which every reader refuses, and those cases i_ that have different meanings for different readers.
WRONG = [
    *(
        b"[1 true]",
        b"[a\xe5]",
        b'["": 1]',
        b'[""],',
        b"[,1]",
        b"[1,,2]",
        b'["x",,]',
        b'["x"]]',
        b'["",]',
        b'["x"',
        b"[x",
    ),
    *(b"[3[4]]", b"[,]", b"[-]", b"[++1234]", b"[+1]", b"[+Inf]", b"[-01]", b"[-1.0.]", b"[-2.]", b"[.-1]", b"[.2e-3]"),
    *(b"[0.1.2]", b"[0.3e+]", b"[0.3e]", b"[0.e1]", b"[0E+]", b"[0e]", b"[1.0e-]", b"[1 000.0]", b"[1eE2]", b"[2.e3]"),
    *(b"[9.e+]", b"[Inf]", b"[NaN]", "[\uff11]".encode(), b"[1+2]", b"[0x1]", b"[0x42]", b"[Infinity]", b"[-Infinity]"),
    *(b"[-012]", b"[-.123]", b"[1ea]", b"[1.]", b"[.123]", b"[012]", b'["x", truth]', b'{[: "x"}\n', b'{"x", null}'),
    *(
        b'{"x"::"b"}',
        b'{"a":"a" 123}',
        b"{key: 'value'}",
        b'{"a" b}',
        b'{:"b"}',
        b'{"a":',
        b'{"a"',
        b"{1:1}",
        b"{null:null}",
    ),
    *(
        b'{"id":0,,,,,}',
        b"{'a':0}",
        b'{"id":0,}',
        b'{"a":"b"}/**/',
        b'{"a":"b"}#',
        b'{"a":"b",,"c":"d"}',
        b'{"a":"a',
        b'{"a":0} x',
    ),
    *(
        b'["\\uD800\\u"]',
        b'["\\u1"]',
        b'["\\u00A"]',
        b'["\\x00"]',
        b'["\\\\\\"]',
        b'["\\a"]',
        b'["\\\x09"]',
        b'["\x1f"]',
        b'["a\x00a"]',
    ),
    *(
        b'["new\nline"]',
        b'"\\UA66D"',
        b"\\u000A",
        b"<.>",
        b"[<null>]",
        b"[1]x",
        b"[1]]",
        b'["asd]',
        b"aw\xc3\xa5",
        b"[True]",
        b"1]",
    ),
    *(
        b'{"x": true,',
        b"[][]",
        b"]",
        b"\xef\xbb\xbf{}",
        b"[",
        b"",
        b"[]\x00",
        b"2@",
        b"{}}",
        b'{"":',
        b'{"a":/*c*/"b"}',
        b"*",
    ),
    *(
        b'{"a":"b"}//',
        b"[1,\n1\n,1",
        b"[false",
        b"[true",
        b"[null",
        b"[\x0c]",
        b"[\xe2\x81\xa0]",
        b"\xe2\x81\xa0",
        b"\xef\xbb\xbf",
    ),
    *(
        b'["\xff"]',
        b'["\xed\xa0\x80"]',
        b'["\xc0\xaf"]',
        b'["\xe6\x97\xa5\xd1\x88\xfa"]',
        b"\xff\xfe[\x00]\x00",
        b"\x00[\x00]",
    ),
    *(
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'[{"b":[{"c":1,"c":1}]}]',
        b"1e99999999999999999999",
        b"[" * 500 + b"]" * 500,
    ),
]


@pytest.mark.parametrize("raw", RIGHT, ids=repr)
def test_json_that_every_reader_accepts_is_read(raw: bytes) -> None:
    assert decode_json(raw) == RIGHT[raw]


@pytest.mark.parametrize("raw", WRONG, ids=lambda raw: repr(raw[:40]))
def test_invalid_or_ambiguous_json_is_refused_with_a_reason(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_json(raw)
