"""How dispatcher and executor talk: what one writes, the other reads, however the bytes arrive."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.worker import wire
from tasks.worker.wire import BrokenWire, Decoder

MESSAGES: list[dict[str, Any]] = [
    {"ready": True},
    {"ended": ["a" * 32, 7], "seconds": 0.02, "outcome": "Succeeded", "result": '"line\nend\r\n\u2028"'},
    {"leases": [{"args": "[1,\n2]", "payload": '{"ä":"\\u0000 \U0001f600"}'}] * 3},
    {"text": "a lone surrogate \ud800, NUL \0, quotes \" and ' and \\"},
    {},
]


def test_what_is_encoded_is_decoded() -> None:
    stream = b"".join(map(wire.encode, MESSAGES))

    assert list(Decoder().feed(stream)) == MESSAGES


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_messages_may_arrive_in_pieces_of_any_size(size: int) -> None:
    stream = b"".join(map(wire.encode, MESSAGES))
    decoder = Decoder()

    heard = [
        message
        for begin in range(0, len(stream), size)
        for message in decoder.feed(stream[begin : begin + size])
    ]

    assert heard == MESSAGES


def test_an_unfinished_message_is_kept_and_not_reported() -> None:
    first, second = wire.encode({"a": 1}), wire.encode({"b": 2})
    decoder = Decoder()

    assert list(decoder.feed(first + second[:4])) == [{"a": 1}]
    assert list(decoder.feed(b"")) == []
    assert list(decoder.feed(second[4:])) == [{"b": 2}]


@pytest.mark.parametrize(
    "line", [b"no json\n", b"[1]\n", b"null\n", b"1,2\n", b'{"a":1}{"b":2}\n', b"\xff\xfe\n", b'{"a":1\n']
)
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(BrokenWire):
        list(Decoder().feed(line))


def test_nobody_can_make_the_other_side_keep_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LINE_LIMIT_BYTES", 1000)
    decoder = Decoder()

    with pytest.raises(BrokenWire):
        for _ in range(20):
            list(decoder.feed(b"x" * 100))


def test_a_message_is_one_line_of_ascii() -> None:
    line = wire.encode({"result": json.dumps("ä\n\u2028\ud800")})

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
