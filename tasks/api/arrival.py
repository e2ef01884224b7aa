"""How much of an HTTP request has come; what cannot be waited for is refused before it is parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping

END_OF_LINE = b"\r\n"
END_OF_HEAD = b"\r\n\r\n"
MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_LINE_BYTES = 1024
MAX_DIGITS = 15  # of a length: far too many already

NONE_LARGER: Mapping[bytes, int] = {}

_PATH = re.compile(rb"[^ ]+ ([^ ?]+)")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?=\r\n)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HEX = re.compile(rb"0*([0-9a-fA-F]+)")


class Refused(Exception):
    """This cannot become a request that is served: ``status`` and a sentence."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Arrival:
    """The bytes of one request, fed as they come.

    It is stricter than gunicorn's parser, which sees nothing but what is complete here: a
    request on which the two disagreed could make a thread wait for its client.
    """

    def __init__(self, *, max_body_bytes: int, larger: Mapping[bytes, int] = NONE_LARGER) -> None:
        """``larger``: paths that may have more, without a query."""
        self.data = bytearray()
        self.complete = False
        self.expects_word = False  # its body comes when it is told to go on
        self._max_body_bytes = max_body_bytes
        self._larger = larger
        self._at = 0  # so far it has been looked at
        self._end: int | None = None  # known from the head on; None while it is, and with chunks
        self._chunked = False
        self._body_bytes = 0  # in the chunks before ``_at``

    @property
    def head(self) -> bytes:
        """Of a complete one, its lines with their ends."""
        return bytes(self.data[: self.data.find(END_OF_HEAD) + len(END_OF_LINE)])

    def feed(self, data: bytes) -> None:
        """Raises Refused, after which there is nothing more to feed."""
        self.data += data
        if not (self._chunked or self._end is not None):
            self._look_for_the_end_of_the_head()
        if self._chunked:
            if len(self.data) > 2 * self._max_body_bytes + MAX_HEAD_BYTES:
                raise Refused(413, "The chunks of the body are larger than what is in them.")
            self._follow_chunks()
        elif self._end is not None:
            self.complete = len(self.data) >= self._end

    def _look_for_the_end_of_the_head(self) -> None:
        end = self.data.find(END_OF_HEAD, max(0, self._at - len(END_OF_HEAD)))
        if _BARE_LF.search(self.data, max(0, self._at - 1), end if end >= 0 else len(self.data)):
            raise Refused(400, "A line of the head ends without a carriage return.")
        self._at = len(self.data)
        if end >= 0:
            self._read_head(end + len(END_OF_HEAD))
        elif self._at > MAX_HEAD_BYTES:
            raise Refused(431, f"The head of a request may have {MAX_HEAD_BYTES:,} bytes.")

    def _read_head(self, end: int) -> None:
        head = bytes(self.data[:end])
        path = _PATH.match(head)
        self._max_body_bytes = self._larger.get(path[1] if path else b"", self._max_body_bytes)
        lengths = [digits.lstrip(b"0") or b"0" for digits in _LENGTH.findall(head)]
        self._at = end
        self._chunked = _CHUNKED.search(head) is not None
        if len(lengths) > 1 or (lengths and self._chunked):
            raise Refused(400, "The length of the body is given twice.")
        if not self._chunked:
            self._end = end + (self._allowed(lengths[0], 10) if lengths else 0)
        if expect := _EXPECT.search(head):
            self._take_out(*expect.span())
            self.expects_word = head.split(END_OF_LINE, 1)[0].endswith(b"HTTP/1.1")  # others may not

    def _allowed(self, digits: bytes, base: int) -> int:
        if len(digits) > MAX_DIGITS or (size := int(digits, base)) > self._max_body_bytes:
            raise Refused(413, f"The body is larger than {self._max_body_bytes:,} bytes.")
        return size

    def _take_out(self, start: int, end: int) -> None:
        """The client is told by whoever feeds us, and needs not be told again."""
        del self.data[start:end]
        self._at -= end - start
        self._end = None if self._end is None else self._end - (end - start)

    def _follow_chunks(self) -> None:
        """RFC 9112, section 7.1."""
        while (line_end := self.data.find(END_OF_LINE, self._at, self._at + MAX_CHUNK_LINE_BYTES)) >= 0:
            size = self._chunk_size(bytes(self.data[self._at : line_end]))
            if size == 0:
                self._look_for_the_end_of_the_trailer(line_end)
                return
            after = line_end + len(END_OF_LINE) + size + len(END_OF_LINE)
            if len(self.data) < after:
                return
            if self.data[after - len(END_OF_LINE) : after] != END_OF_LINE:
                raise Refused(400, "A chunk is longer than it says.")
            self._at, self._body_bytes = after, self._body_bytes + size
        if len(self.data) - self._at > MAX_CHUNK_LINE_BYTES:
            raise Refused(400, "A chunk does not begin with its size.")

    def _chunk_size(self, line: bytes) -> int:
        digits = _HEX.fullmatch(line.split(b";")[0].rstrip(b" \t"))
        if digits is None:
            raise Refused(400, "A chunk does not begin with its size.")
        size = self._allowed(digits[1], 16)
        self._allowed(b"%d" % (self._body_bytes + size), 10)
        return size

    def _look_for_the_end_of_the_trailer(self, start: int) -> None:
        self.complete = self.data.find(END_OF_HEAD, start) >= 0
        if not self.complete and len(self.data) - start > MAX_CHUNK_LINE_BYTES:
            raise Refused(431, f"What follows the last chunk may have {MAX_CHUNK_LINE_BYTES:,} bytes.")
