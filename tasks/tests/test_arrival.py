"""How much of an HTTP request has come, whatever the pieces in which it comes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskservice.arrival import MAX_CHUNK_LINE_BYTES, MAX_HEAD_BYTES, Arrival

LIMIT_BYTES = 1000


def arrival_of(*parts: bytes) -> Arrival:
    arrival = Arrival(max_body_bytes=LIMIT_BYTES)
    for part in parts:
        arrival.feed(part)
    return arrival


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /tasks HTTP/1.1", "Host: a", *lines, "", ""]).encode()


CHUNKED = head("Transfer-Encoding: chunked")
COMPLETE = {
    "no-body": head(),
    "empty-body": head("Content-Length: 0"),
    "body": head("Content-Length: 5") + b"12345",
    "length-in-small-letters": head("content-length:5") + b"12345",
    "body-of-the-limit": head(f"Content-Length: {LIMIT_BYTES}") + b"x" * LIMIT_BYTES,
    "chunks": CHUNKED + b"5\r\n12345\r\n3;name=value\r\n123\r\n0\r\n\r\n",
    "chunk-that-looks-like-the-end": CHUNKED + b"9\r\nab\r\n0\r\n\r\n\r\n0\r\n\r\n",
    "no-chunk": CHUNKED + b"0\r\n\r\n",
    "trailer": CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n",
    "chunks-of-the-limit": CHUNKED + b"1F4\r\n" + b"x" * 500 + b"\r\n1f4\r\n" + b"x" * 500 + b"\r\n0\r\n\r\n",
}
HOPELESS = {
    "body-beyond-the-limit": head(f"Content-Length: {LIMIT_BYTES + 1}"),
    "two-lengths": head("Content-Length: 5", "Content-Length: 6"),
    "endless-head": b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * MAX_HEAD_BYTES,
    "no-chunk-size": CHUNKED + b"zz\r\n",
    "negative-chunk": CHUNKED + b"-1\r\n",
    "chunk-with-underscore": CHUNKED + b"1_0\r\n",
    "chunks-beyond-the-limit": CHUNKED + b"3e8\r\n" + b"x" * LIMIT_BYTES + b"\r\n1\r\nx",
    "chunk-beyond-the-limit": CHUNKED + b"fffff\r\n" + b"x" * (LIMIT_BYTES + 1),
    "endless-chunk-line": CHUNKED + b"1;" + b"x" * (MAX_CHUNK_LINE_BYTES + 1),
    "endless-trailer": CHUNKED + b"0\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES,
}


@pytest.mark.parametrize("data", COMPLETE.values(), ids=COMPLETE)
def test_a_request_is_complete_with_its_last_byte_and_not_before(data: bytes) -> None:
    assert arrival_of(data).complete
    assert not arrival_of(data[:-1]).ready


@pytest.mark.parametrize("data", HOPELESS.values(), ids=HOPELESS)
def test_what_will_be_refused_is_not_waited_for(data: bytes) -> None:
    arrival = arrival_of(data)

    assert arrival.hopeless
    assert not arrival.complete
    assert arrival.endless == (data == HOPELESS["endless-head"])


@settings(database=None, deadline=None)  # writes no files; the machine may be busy
@given(st.sampled_from([*COMPLETE.values(), *HOPELESS.values()]), st.data())
def test_the_pieces_in_which_it_comes_make_no_difference(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    at_once, in_pieces = arrival_of(data), arrival_of(*parts)

    assert (in_pieces.complete, in_pieces.hopeless) == (at_once.complete, at_once.hopeless)
    assert in_pieces.data == at_once.data == data


def test_byte_by_byte_it_is_complete_only_at_the_end() -> None:
    data = COMPLETE["trailer"]
    arrival = Arrival(max_body_bytes=LIMIT_BYTES)

    ready = []
    for byte in data:
        arrival.feed(bytes([byte]))
        ready.append(arrival.ready)

    assert ready == [False] * (len(data) - 1) + [True]


def test_what_follows_a_request_stays_with_it() -> None:
    data = COMPLETE["body"] + COMPLETE["no-body"]

    assert arrival_of(data).complete
    assert arrival_of(data).data == data


@pytest.mark.parametrize("line", ["Expect: 100-continue", "expect:100-Continue"])
@pytest.mark.parametrize("length", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_a_client_that_waits_for_a_word_gets_it_and_the_request_no_longer_says_so(
    line: str, length: str
) -> None:
    arrival = arrival_of(head(line, length))

    assert arrival.expects_word
    assert not arrival.ready
    assert arrival.data == head(length)
    arrival.feed(b"12345" if "Length" in length else b"5\r\n12345\r\n0\r\n\r\n")
    assert arrival.complete


def test_a_client_whose_body_is_too_large_is_not_told_to_send_it() -> None:
    arrival = arrival_of(head("Expect: 100-continue", f"Content-Length: {LIMIT_BYTES + 1}"))

    assert arrival.hopeless
    assert not arrival.expects_word
