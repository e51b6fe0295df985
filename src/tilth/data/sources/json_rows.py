"""The rows of a JSON file, one at a time: cut out of the bytes, so that a file of any size fits.

    rows(pieces, path) -> bytes of one row, or the length of one that is too long

        [row, row, …]                          its items
        row row …                              values one after another (one object, or one on each line)
        {"data": {"items": [row, …]}}          with the path ("data", "items"), through lists on the way too

This finds borders only; each row is then parsed by Python's `json`, which says what is wrong inside of it. Where the
borders themselves are wrong (a comma that is missing, an end that never comes) nothing after can be trusted:
`MalformedError` names the byte, and that from which on no row was given out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from tilth.data.sources import streams

# A string, a bracket, a comma, a colon, or what stands for itself (a number, true, false, null). A quote by itself is a
# string whose end is not here yet. Possessive, so that no input makes the engine try twice.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},:"]|[^\s\[\]{},:"]++', re.DOTALL)
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)  # of a string, up to its quote or to half an escape
_OPEN, _CLOSE = (b"[", b"{"), (b"]", b"}")


def _nested(depth: int) -> bytes:
    """A pattern for what stands in brackets, with brackets in it down to `depth`."""
    inner = rb'[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+"'
    pattern = rb"[\[{](?:" + inner + rb")*+[\]}]"
    for _ in range(depth):
        pattern = rb"[\[{](?:" + inner + rb"|" + pattern + rb")*+[\]}]"
    return pattern


# Nearly all rows are found whole by this, ten times as fast as token by token.
_SHALLOW = re.compile(_nested(4), re.DOTALL)


class MalformedError(Exception):
    """The structure is broken; the message says where and how.

    Attributes:
        at: the byte from which on nothing was given out: where the value begins that is broken.
        listed: it stands in a list of rows.
        cut: the file ends in that list. It may be cut off, or a quote that was never closed took in the rest.
    """

    def __init__(self, message: str, at: int, *, listed: bool, ended: bool) -> None:
        super().__init__(message)
        self.at, self.listed, self.cut = at, listed, listed and ended


def rows(pieces: Iterable[bytes], path: tuple[str, ...] = ()) -> Iterator[bytes | int]:
    """The rows of a file; see above.

    Raises:
        MalformedError: the file is no JSON from here on.
    """
    tokens = _Tokens(pieces)
    while token := tokens.next():
        yield from _rows_of(tokens, token, path)


def _rows_of(tokens: _Tokens, first: bytes, path: tuple[str, ...]) -> Iterator[bytes | int]:
    if not path:
        if first == b"[":
            yield from _items(tokens, path)
        else:
            yield tokens.value(first)
    elif first == b"{":
        for key, value in _members(tokens):
            if key == path[0]:
                yield from _rows_of(tokens, value, path[1:])
            else:
                tokens.value(value, keep=False)
    elif first == b"[":
        yield from _items(tokens, path)
    else:
        tokens.value(first, keep=False)


def _items(tokens: _Tokens, path: tuple[str, ...]) -> Iterator[bytes | int]:
    """The items of a list; with a path the rows that stand there in each."""
    tokens.lists += 1
    token = tokens.next()
    while token != b"]":
        if path:
            yield from _rows_of(tokens, token, path)
        else:
            yield tokens.value(token)
        token = tokens.expect(b",", b"]")
        if token == b",":
            token = tokens.next()
    tokens.lists -= 1


def _members(tokens: _Tokens) -> Iterator[tuple[str, bytes]]:
    """`(key, first token of its value)`; the value is to be taken before the next."""
    token = tokens.next()
    while token != b"}":
        if not token.startswith(b'"'):
            raise tokens.fault(f"a key must stand at byte {tokens.place()}", ended=not token)
        try:
            key = str(json.loads(token))
        except ValueError:
            key = ""  # a wrong escape: no path names it
        tokens.expect(b":")
        yield key, tokens.next()
        token = tokens.expect(b",", b"}")
        if token == b",":
            token = tokens.next()


class _Tokens:
    """Tokens out of pieces; what has been passed is forgotten."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._data, self._at, self._gone, self._ended = b"", 0, 0, False
        self._kept: bytearray | None = None  # the value that is being cut out
        self._size = 0  # of it, what is beyond `LONGEST_LINE` too
        self._start = 0
        self._begun: int | None = None  # the offset in the file of that value, kept or not
        self.lists = 0
        """Of rows, that are open."""

    def fault(self, message: str, *, ended: bool, at: int | None = None) -> MalformedError:
        """The error for what is wrong at a byte, by default at the token just taken; `ended`: that the file is at its
        end.
        """
        at = self.place() if at is None else at
        return MalformedError(message, at if self._begun is None else self._begun, listed=self.lists > 0, ended=ended)

    def place(self) -> int:
        """The offset in the file up to which tokens were taken."""
        return self._gone + self._start

    def next(self) -> bytes:
        """The next token; empty at the end of the file."""
        while True:
            found = _TOKEN.search(self._data, self._at)
            whole = found is not None and (found.end() < len(self._data) or found[0][:1] in b'"[]{},:')
            if found is not None and whole and found[0] != b'"':
                return self._take(found)
            if self._ended:
                if found is not None and found[0] != b'"':
                    return self._take(found)
                if found is not None:
                    at = self._gone + found.start()
                    raise self.fault(f"the string at byte {at} has no end", ended=True, at=at)
                self._pass(len(self._data))
                self._start = self._at
                return b""
            self._more(found)

    def expect(self, *allowed: bytes) -> bytes:
        """The next token, which must be one of these."""
        token = self.next()
        if token not in allowed:
            wanted = " or ".join(repr(one.decode()) for one in allowed)
            shown = repr(token[:20].decode("utf-8", "replace")) if token else "the file's end"
            raise self.fault(f"{wanted} must stand at byte {self.place()}, not {shown}", ended=not token)
        return token

    def value(self, first: bytes, *, keep: bool = True) -> bytes | int:
        """The value that begins with the token just taken: its bytes, or its length when it is too long (or not kept).

        Raises:
            MalformedError: no value begins with it, or its end never comes.
        """
        if not first or first in (b",", b":", b"]", b"}"):
            shown = repr(first.decode()) if first else "the file's end"
            raise self.fault(f"a value must stand at byte {self.place()}, not {shown}", ended=not first)
        begun = self.place()
        if first in _OPEN and (found := _SHALLOW.match(self._data, self._start)) is not None:
            self._pass(found.end())
            self._check_closed(first, found[0][-1:], begun)
            return found[0] if len(found[0]) <= streams.LONGEST_LINE else len(found[0])
        self._kept, self._size, self._begun = bytearray(first) if keep else None, len(first), begun
        depth, token = 1 if first in _OPEN else 0, b""
        while depth:
            token = self.next()
            if not token:
                raise self.fault(f"the value at byte {begun} has no end", ended=True)
            if len(token) == 1:
                depth += (token in _OPEN) - (token in _CLOSE)
        self._check_closed(first, token, begun)
        kept, self._kept, self._begun = self._kept, None, None
        return bytes(kept) if kept is not None and self._size <= streams.LONGEST_LINE else self._size

    def _check_closed(self, first: bytes, last: bytes, begun: int) -> None:
        """Where a bracket is missing a value takes in those behind it, and ends with a bracket that is not its own."""
        if first in _OPEN and _CLOSE[_OPEN.index(first)] != last:
            said = f"the value at byte {begun} begins with {first.decode()!r} and ends with {last.decode()!r}"
            raise self.fault(said, ended=False, at=begun)

    def _take(self, found: re.Match[bytes]) -> bytes:
        self._pass(found.end())
        self._start = found.start()
        return found[0]

    def _pass(self, end: int) -> None:
        """Goes on to `end`; what is passed belongs to the value that is being cut out."""
        self._size += end - self._at
        if self._kept is not None and self._size <= streams.LONGEST_LINE:
            self._kept += self._data[self._at : end]
        self._at = end

    def _more(self, found: re.Match[bytes] | None) -> None:
        """One more piece behind what is not yet taken."""
        keep = len(self._data) if found is None else found.start()
        self._pass(keep)
        if len(self._data) - keep > streams.LONGEST_LINE:
            longer = f"is longer than {streams.LONGEST_LINE} bytes"
            at = self._gone + keep
            raise self.fault(f"the string at byte {at} {longer}", ended=False, at=at)
        held = [self._data[keep:]]
        self._gone += keep
        if found is not None and found[0] == b'"':
            self._gather(held)
        else:
            held.append(next(self._pieces, b""))
        self._data, self._at, self._ended = b"".join(held), 0, not held[-1]

    def _gather(self, held: list[bytes]) -> None:
        """Pieces up to the one in which a string ends that is open at the end of `held`: each is looked at once."""
        size, piece, half = 1, held[0][1:], b""  # the opening quote is no end
        while True:
            looked = half + piece
            inside = _INSIDE.match(looked)
            assert inside is not None  # it matches nothing as well
            half, size = looked[inside.end() :], size + len(piece)
            if half.startswith(b'"') or size > streams.LONGEST_LINE or not held[-1]:
                return
            piece = next(self._pieces, b"")
            held.append(piece)
