"""The key of a step: the full sha256 of everything that decides what it produces."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from hashlib import sha256
from json.encoder import encode_basestring_ascii
from operator import attrgetter
from typing import Any

_PLAIN = (str, int, float, type(None))

_ALWAYS: Any = object()
"""In place of the default of a field that is always in the key."""


def canonical(value: Any) -> Any:
    """Return the JSON values of frozen inputs, without names and paths (fields of `key=False`)."""
    if isinstance(value, _PLAIN):
        return value
    kind: Any = type(value)
    if (fields := _fields(kind)) is not None:
        found = ((name, getattr(value, name), default) for name, default in fields)
        return {
            name: canonical(own)
            for name, own, default in found
            if default is _ALWAYS or own != default
        }
    if isinstance(value, Mapping):
        return {str(name): canonical(item) for name, item in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    return value


@cache
def _fields(kind: type) -> tuple[tuple[str, Any], ...] | None:
    """Return the fields that are in the key by name, each with the default at which it is left out.

    None for what is no dataclass.
    """
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(
        (field.name, _ALWAYS if field.metadata.get("default_in_key", True) else field.default)
        for field in sorted(dataclasses.fields(kind), key=lambda field: field.name)
        if field.metadata.get("key", True)
    )


def canonical_text(value: Any) -> str:
    """Return `canonical` as JSON text, without blanks and with sorted names.

    Raises:
        ValueError: a number is not finite.
    """
    return _texts((value,))[0]


Text = Callable[[Any], str]


class _Texts(dict[type, Text]):
    """How values are encoded, by their type; of a dataclass made when one is first seen.

    This is `json.dumps` of `canonical`, in a tenth of its time: a plan has steps by the hundred
    thousand, whose inputs have nearly everything in common.
    """

    def __missing__(self, kind: type) -> Text:
        made = _encode if (fields := _fields(kind)) is None else _remembered(_object(fields))
        self[kind] = made
        return made


_KNOWN: dict[int, tuple[Any, str]] = {}
"""The texts of frozen values, by `id`; each value is kept, too, so that its id is not used again.
The inputs of ten thousand steps consist of some hundred models, shapes and engines."""

_MOST_KNOWN = 1 << 14
"""So few are soon encoded again, and take little memory."""


def _texts(values: Iterable[Any]) -> list[str]:
    """Return the text of each value, most of which are known."""
    known, text_of = _KNOWN.get, _TEXT_OF
    return [found[1] if (found := known(id(one))) else text_of[type(one)](one) for one in values]


def _remembered(encoded: Text) -> Text:
    """Return what encodes a value that is not known, and remembers its text."""

    def text(value: Any) -> str:
        made = encoded(value)
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[id(value)] = value, made
        return made

    return text


def _encode(value: Any) -> str:
    dumped = canonical(value)
    return json.dumps(dumped, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else _encode(value)


def _list(value: tuple[Any, ...] | list[Any]) -> str:
    return f"[{','.join(_texts(value))}]"


_TEXT_OF = _Texts({str: encode_basestring_ascii, int: repr, float: _number})
_TEXT_OF |= {tuple: _remembered(_list), list: _list}
_TEXT_OF |= {type(None): lambda _: "null", bool: lambda value: "true" if value else "false"}


def _object(fields: tuple[tuple[str, Any], ...]) -> Text:
    """Return what encodes a dataclass with these fields."""
    always = tuple(name for name, default in fields if default is _ALWAYS)
    if len(always) < 2:  # attrgetter returns no tuple
        return _encode
    short, values = _template(always), attrgetter(*always)

    def text(value: Any) -> str:
        return short % tuple(_texts(values(value)))

    others = {name: default for name, default in fields if default is not _ALWAYS}
    if not others:
        return text
    other_values, defaults = attrgetter(*others), tuple(others.values())
    at_default = defaults if len(defaults) > 1 else defaults[0]

    def text_with_others(value: Any) -> str:
        if other_values(value) == at_default:  # nearly always
            return text(value)
        found = ((name, getattr(value, name), default) for name, default in fields)
        kept = {name: own for name, own, default in found if default is _ALWAYS or own != default}
        return _template(kept) % tuple(_texts(kept.values()))

    return text_with_others


def _template(names: Iterable[str]) -> str:
    """Return JSON text of an object with these names, into which its values are formatted."""
    return "{" + ",".join(f'"{name}":%s' for name in names) + "}"


@cache
def _whole(kind: type) -> Text:
    """Return what encodes the inputs of a step, which are its own: their text is not kept."""
    fields = _fields(kind)
    return canonical_text if fields is None else _object(fields)


def step_key(stage: str, code: str | int, inputs: Any, tools: Any) -> str:
    """Return the key, a sha256 of 64 hex digits. Equal keys are the same work, which is done once.

    The digest is that of canonical JSON with the names `inputs`, `stage`, `toolchain` (the versions
    of packages) and `version` (the code). What steps have in common is encoded once.

    code: the digest of the farm's code that runs the stage; a number in records from before there
    was one.

    Raises:
        ValueError: a number is not finite.
    """
    return key_maker(stage, code, tools)(inputs)


def key_maker(stage: str, code: str | int, tools: Any) -> Callable[[Any], str]:
    """Return what makes the `step_key` of steps that differ in their inputs alone."""
    name, versions, version = map(canonical_text, (stage, tools, code))
    rest = f',"stage":{name},"toolchain":{versions},"version":{version}}}'

    def key(inputs: Any) -> str:
        kind: Any = type(inputs)
        return sha256(f'{{"inputs":{_whole(kind)(inputs)}{rest}'.encode()).hexdigest()

    return key
