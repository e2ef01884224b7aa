"""How much of an HTTP request has come, whatever the pieces in which it comes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.api.arrival import MAX_CHUNK_LINE_BYTES, MAX_HEAD_BYTES, Arrival, Refused

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
    "length-with-zeros": head("Content-Length: 00000000000000000000005") + b"12345",
    "length-in-small-letters": head("content-length:5") + b"12345",
    "body-of-the-limit": head(f"Content-Length: {LIMIT_BYTES}") + b"x" * LIMIT_BYTES,
    "chunks": CHUNKED + b"5\r\n12345\r\n3;name=value\r\n123\r\n0\r\n\r\n",
    "chunk-that-looks-like-the-end": CHUNKED + b"9\r\nab\r\n0\r\n\r\n\r\n0\r\n\r\n",
    "chunk-size-with-zeros": CHUNKED + b"0000000000000000005\r\n12345\r\n0\r\n\r\n",
    "no-chunk": CHUNKED + b"0\r\n\r\n",
    "trailer": CHUNKED + b"1\r\na\r\n0\r\nX: y\r\n\r\n",
    "chunks-of-the-limit": CHUNKED + b"1F4\r\n" + b"x" * 500 + b"\r\n1f4\r\n" + b"x" * 500 + b"\r\n0\r\n\r\n",
}
REFUSED = {
    "body-beyond-the-limit": (413, head(f"Content-Length: {LIMIT_BYTES + 1}")),
    "body-of-a-million-digits": (413, head("Content-Length: " + "9" * 1000)),
    "two-lengths": (400, head("Content-Length: 5", "Content-Length: 5")),
    "length-and-chunks": (400, head("Content-Length: 5", "Transfer-Encoding: chunked")),
    "endless-head": (431, b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * MAX_HEAD_BYTES),
    "bare-line-feeds": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare-line-feed-in-the-head": (400, head("X: y\nZ: z")),
    "no-chunk-size": (400, CHUNKED + b"zz\r\n"),
    "empty-chunk-size": (400, CHUNKED + b"\r\n"),
    "negative-chunk": (400, CHUNKED + b"-1\r\n"),
    "chunk-with-underscore": (400, CHUNKED + b"1_0\r\n"),
    "chunk-longer-than-it-says": (400, CHUNKED + b"1\r\nabcd"),
    "chunks-beyond-the-limit": (413, CHUNKED + b"3e8\r\n" + b"x" * LIMIT_BYTES + b"\r\n1\r\n"),
    "chunk-beyond-the-limit": (413, CHUNKED + b"fffff\r\n"),
    "chunk-of-a-million-digits": (413, CHUNKED + b"f" * 100 + b"\r\n"),
    "chunks-of-nothing-but-words": (413, CHUNKED + (b"1;" + b"x" * 1000 + b"\r\nx\r\n") * 100),
    "endless-chunk-line": (400, CHUNKED + b"1;" + b"x" * (MAX_CHUNK_LINE_BYTES + 1)),
    "endless-trailer": (431, CHUNKED + b"0\r\n" + b"X: y\r\n" * MAX_CHUNK_LINE_BYTES),
}


@pytest.mark.parametrize("data", COMPLETE.values(), ids=COMPLETE)
def test_a_request_is_complete_with_its_last_byte_and_not_before(data: bytes) -> None:
    assert arrival_of(data).complete
    assert not arrival_of(data[:-1]).complete


@pytest.mark.parametrize(("status", "data"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_become_a_request_is_refused_without_waiting_for_more(status: int, data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        arrival_of(data)

    assert refused.value.status == status


def fate_of(*parts: bytes) -> object:
    try:
        arrival = arrival_of(*parts)
    except Refused as refused:
        return refused.status
    return arrival.complete, bytes(arrival.data)


@settings(database=None, deadline=None)  # writes no files; the machine may be busy
@given(st.sampled_from([*COMPLETE.values(), *(data for _, data in REFUSED.values())]), st.data())
def test_the_pieces_in_which_it_comes_make_no_difference(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    assert fate_of(*parts) == fate_of(data)


def test_byte_by_byte_it_is_complete_only_at_the_end() -> None:
    data = COMPLETE["trailer"]
    arrival = Arrival(max_body_bytes=LIMIT_BYTES)

    complete = []
    for byte in data:
        arrival.feed(bytes([byte]))
        complete.append(arrival.complete)

    assert complete == [False] * (len(data) - 1) + [True]


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
    assert not arrival.complete
    assert arrival.data == head(length)
    arrival.feed(b"12345" if "Length" in length else b"5\r\n12345\r\n0\r\n\r\n")
    assert arrival.complete


def test_a_client_of_before_http_1_1_is_told_nothing() -> None:
    """RFC 9110, section 10.1.1."""
    data = head("Expect: 100-continue", "Content-Length: 5").replace(b"HTTP/1.1", b"HTTP/1.0")

    assert not arrival_of(data).expects_word


@pytest.mark.parametrize(
    ("target", "most"),
    [("/many", 5000), ("/many?a=b", 5000), ("/many/", LIMIT_BYTES), ("/other?/many", LIMIT_BYTES)],
)
def test_some_paths_may_have_larger_bodies(target: str, most: int) -> None:
    def arrive(size: int) -> bool:
        arrival = Arrival(max_body_bytes=LIMIT_BYTES, larger={b"/many": 5000})
        arrival.feed(f"POST {target} HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode() + b"x" * size)
        return arrival.complete

    assert arrive(most)
    with pytest.raises(Refused, match=f"{most:,}"):
        arrive(most + 1)
