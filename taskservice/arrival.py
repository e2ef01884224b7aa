"""How much of an HTTP request has come: counted, not judged; gunicorn's own parser does that afterwards."""

from __future__ import annotations

import re

END_OF_LINE = b"\r\n"
END_OF_HEAD = b"\r\n\r\n"
MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_LINE_BYTES = 1024

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)


class Arrival:
    """The bytes of one request, fed as they come."""

    def __init__(self, *, max_body_bytes: int) -> None:
        self.data = bytearray()
        self.complete = False  # all of it is here
        self.hopeless = False  # not all, but enough to refuse it: too large, or nonsense
        self.endless = False  # and even its head does not end
        self.expects_word = False  # its body comes when it is told to go on
        self._max_body_bytes = max_body_bytes
        self._at = 0  # so far it has been looked at
        self._end: int | None = None  # known from the head on; None while it is, and with chunks
        self._chunked = False
        self._body_bytes = 0  # in the chunks before ``_at``

    @property
    def ready(self) -> bool:
        """Whoever reads it now needs not wait for its client."""
        return self.complete or self.hopeless

    def feed(self, data: bytes) -> None:
        self.data += data
        if not (self._chunked or self._end is not None):
            self._look_for_the_end_of_the_head()
        if self._chunked:
            self._follow_chunks()
        elif self._end is not None:
            self.complete = len(self.data) >= self._end

    def _look_for_the_end_of_the_head(self) -> None:
        end = self.data.find(END_OF_HEAD, max(0, self._at - len(END_OF_HEAD)))
        self._at = len(self.data)
        if end >= 0:
            self._read_head(end + len(END_OF_HEAD))
        elif self._at > MAX_HEAD_BYTES:
            self.hopeless = self.endless = True

    def _read_head(self, end: int) -> None:
        head = bytes(self.data[:end])
        lengths = [int(digits) for digits in _LENGTH.findall(head)]
        self._at = end
        self._chunked = _CHUNKED.search(head) is not None
        if not self._chunked:
            self._end = end + (lengths[0] if lengths else 0)
            self.hopeless = len(lengths) > 1 or self._end - end > self._max_body_bytes
        if not self.hopeless and (expect := _EXPECT.search(head)):
            self._forget(*expect.span())

    def _forget(self, start: int, end: int) -> None:
        """It is told by whoever feeds us, and needs not be told again."""
        del self.data[start:end]
        self.expects_word = True
        self._at -= end - start
        self._end = None if self._end is None else self._end - (end - start)

    def _follow_chunks(self) -> None:
        """RFC 9112, section 7.1."""
        while (line_end := self.data.find(END_OF_LINE, self._at, self._at + MAX_CHUNK_LINE_BYTES)) >= 0:
            size = _chunk_size(bytes(self.data[self._at : line_end]))
            if size is None:
                self.hopeless = True
                return
            if size == 0:
                self.complete = self.data.find(END_OF_HEAD, line_end) >= 0
                self.hopeless = len(self.data) - line_end > MAX_HEAD_BYTES  # an endless trailer
                return
            start = line_end + len(END_OF_LINE)
            if self._body_bytes + min(size, len(self.data) - start) > self._max_body_bytes:
                self.hopeless = True
                return
            if len(self.data) < start + size + len(END_OF_LINE):
                return
            self._at, self._body_bytes = start + size + len(END_OF_LINE), self._body_bytes + size
        self.hopeless = len(self.data) - self._at > MAX_CHUNK_LINE_BYTES


def _chunk_size(line: bytes) -> int | None:
    digits = line.split(b";")[0].strip()
    return int(digits, 16) if 0 < len(digits) <= 15 and digits.isalnum() and _is_hex(digits) else None


def _is_hex(digits: bytes) -> bool:
    return all(digit in b"0123456789abcdefABCDEF" for digit in digits)
