"""Inputs by hypothesis: a whole file with some bytes changed, words in it replaced by ill-meant ones, or other values where it has structure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from .seeds import Kind

WORDS = (  # numbers that are too large, too small or none, paths that lead elsewhere, markup that unfolds
    b"nan", b"inf", b"-1", b"0", b"1e400", b"2147483648", b"4294967295", b"99999999999", b"9223372036854775807", b"-9223372036854775809",
    b"1" * 5000, b"../../../../etc/passwd", b"/dev/zero", b"\x00", b"\xff\xfe", b"[" * 2000, b"{" * 2000, b"&x;", b"", b"1000000000 1000000000",
    b"<!DOCTYPE a [<!ENTITY x 'xxxxxxxx'><!ENTITY y '&x;&x;&x;&x;&x;&x;&x;&x;'>]>", b"%s%n", b"$(touch x)", b"__class__", b"true", b"null",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, float("nan"), float("inf"), 10**9, 10**18, 10**400, "", "../../x", [], {}, [[]], [0] * 50, [10**9] * 3, {"a": 1}, "tip",
)  # fmt: skip
POSITION = st.floats(0.0, 1.0, exclude_max=True)


@st.composite
def contents(draw: st.DrawFn, kind: Kind) -> bytes:
    """The content of a file of a kind, damaged or forged."""
    content = draw(st.sampled_from(kind.seeds))
    if kind.forge is not None and draw(st.booleans()):
        edits = draw(st.lists(st.tuples(POSITION, st.sampled_from(VALUES)), min_size=1, max_size=3))
        return kind.forge(content, lambda value: _with_leaves_changed(value, edits))
    for _ in range(draw(st.integers(1, 4))):
        content = draw(st.sampled_from(EDITS))(draw, content)
    return content


def _flip(draw: st.DrawFn, content: bytes) -> bytes:
    data = bytearray(content)
    for at in draw(st.lists(POSITION, min_size=1, max_size=8)):
        if data:
            data[int(at * len(data))] ^= draw(st.integers(1, 255))
    return bytes(data)


def _cut(draw: st.DrawFn, content: bytes) -> bytes:
    return content[: int(draw(POSITION) * len(content))]


def _drop(draw: st.DrawFn, content: bytes) -> bytes:
    at = int(draw(POSITION) * len(content))
    return content[:at] + content[at + draw(st.integers(1, 64)) :]


def _repeat(draw: st.DrawFn, content: bytes) -> bytes:
    at, length = int(draw(POSITION) * len(content)), draw(st.integers(1, 256))
    return content[: at + length] * 1 + content[at : at + length] * draw(st.integers(1, 20)) + content[at + length :]


def _insert(draw: st.DrawFn, content: bytes) -> bytes:
    at = int(draw(POSITION) * len(content))
    return content[:at] + draw(st.binary(min_size=1, max_size=16) | st.sampled_from(WORDS)) + content[at:]


def _replace_word(draw: st.DrawFn, content: bytes) -> bytes:
    """A word of letters and digits by another: a count, a type, a name."""
    words = list(re.finditer(rb"[\w.+-]+", content))
    if not words:
        return content
    word = words[int(draw(POSITION) ** 2 * len(words))]  # more often at the beginning, where counts are
    return content[: word.start()] + draw(st.sampled_from(WORDS)) + content[word.end() :]


EDITS: tuple[Callable[[st.DrawFn, bytes], bytes], ...] = (_flip, _cut, _drop, _repeat, _insert, _replace_word, _replace_word, _replace_word)


def _with_leaves_changed(value: Any, edits: list[tuple[float, Any]]) -> Any:
    """A tree of dicts and lists in which some places, counted from its root, hold other values."""
    for at, other in edits:
        places = list(_places(value, ()))
        value = _with(value, places[int(at * len(places))], other)
    return value


def _places(value: Any, path: tuple) -> Any:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


def _with(value: Any, path: tuple, other: Any) -> Any:
    if not path:
        return other
    key, *rest = path
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[key] = _with(value[key], tuple(rest), other)
    return changed
