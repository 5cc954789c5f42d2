"""com.microsoft's operators on texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sardonyx.base.errors import Fail
from sardonyx.host.table import Array, Function, Table, fresh

START, END = "\x02", "\x03"
CLASSES = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "word": "a-zA-Z0-9_",
    "lower": "a-z",
    "upper": "A-Z",
    "space": r"\s",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9a-fA-F",
}
"""What RE2's classes, such as `[:alpha:]`, stand for inside brackets."""


def tokenizer(
    *,
    mark: int,
    mincharnum: int,
    pad_value: str,
    separators: Sequence[str] | None = None,
    tokenexp: str | None = None,
) -> Function:
    """x: string[*d] -> string[*d, longest]: the tokens of each text, padded with `pad_value`; with `mark`, between 0x02 and
    0x03.

    Tokens shorter than `mincharnum` characters are dropped. If x has no tokens at all, the last axis is empty, even with
    marks. Raises Fail for an invalid attribute.
    """
    if mincharnum < 1:
        raise Fail(f"Tokenizer: mincharnum must be positive, not {mincharnum}")
    if not separators and not tokenexp:
        raise Fail("Tokenizer: neither separators nor tokenexp are given")
    split = splitter(separators) if separators else finder(tokenexp or "")
    if separators == ("",) and mincharnum > 1:
        raise Fail("Tokenizer: with an empty separator all tokens have one character, but mincharnum is larger than 1")

    def run(x: Array) -> Array:
        rows = [[token for token in split(text) if len(token) >= mincharnum] for text in x.reshape(-1).tolist()]
        longest = max(map(len, rows), default=0)
        if mark and longest:
            rows = [[START, *row, END] for row in rows]
            longest += 2
        if not x.size:
            return x
        out = np.full((len(rows), longest), pad_value, object)
        for place, row in zip(out, rows, strict=True):
            place[: len(row)] = row
        return out.reshape(*x.shape, longest)

    return fresh(run)


def splitter(separators: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a function that splits a text at each separator, one after the other; a single empty separator splits it into
    characters.
    """
    if tuple(separators) == ("",):
        return list
    patterns = [expression(separator) for separator in separators]

    def split(text: str) -> list[str]:
        parts = [text]
        for pattern in patterns:
            parts = [piece for part in parts for piece in between(pattern, part)]
        return parts

    return split


def between(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """Yield the texts before, between and after the matches."""
    start = 0
    for first, end in matches(pattern, text):
        yield text[start:first]
        start = end
    yield text[start:]


def finder(tokenexp: str) -> Callable[[str], list[str]]:
    """Return a function that finds all matches of an expression."""
    pattern = expression(tokenexp)
    return lambda text: [text[first:end] for first, end in matches(pattern, text)]


def matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the nonempty matches from left to right, each as long as possible."""
    place = 0
    while place <= len(text) and (found := pattern.search(text, place)) is not None:
        first, end = found.span()
        if "|" in pattern.pattern or "?" in pattern.pattern:  # Python's match need not be the longest
            end = next((e for e in range(len(text), end, -1) if pattern.fullmatch(text, first, e)), end)
        if end > first:
            yield first, end
        place = max(end, first + 1)


def expression(text: str) -> re.Pattern[str]:
    """Compile a regular expression in RE2's syntax, as far as Python supports it. Raises Fail for any other."""
    plain = re.sub(r"\[:(\w+):\]", lambda found: CLASSES.get(found[1], found[0]), text)
    try:
        return re.compile(plain, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise Fail(f"Tokenizer: invalid regular expression {text!r}: {error}") from error


TABLE: Table = {"Tokenizer": ((1, tokenizer),)}
