"""The key of a step: the full sha256 of everything that decides what it produces."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

_PLAIN = (str, int, float, type(None))


def canonical(value: Any) -> Any:
    """Return the JSON values of frozen inputs, without names and paths (fields of `key=False`)."""
    if isinstance(value, _PLAIN):
        return value
    kind: Any = type(value)
    if (fields := _fields(kind)) is not None:
        return _frozen(value, fields)
    if isinstance(value, Mapping):
        return {str(name): canonical(item) for name, item in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    return value


_KNOWN: dict[int, tuple[Any, Any]] = {}
"""The JSON of frozen values, by `id`; each value is kept, too, so that its id is not used again.
The inputs of ten thousand steps consist of some hundred models, shapes and engines."""

_MOST_KNOWN = 1 << 17

_ALWAYS = object()
"""In place of the default of a field that is always in the key."""


def _frozen(value: Any, fields: tuple[tuple[str, Any], ...]) -> Any:
    if found := _KNOWN.get(id(value)):
        return found[1]
    fields_of = ((name, getattr(value, name), default) for name, default in fields)
    made = {name: canonical(own) for name, own, default in fields_of if own != default}
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[id(value)] = value, made
    return made


@cache
def _fields(kind: type) -> tuple[tuple[str, Any], ...] | None:
    """Return the fields that are in the key, each with the default at which it is left out.

    None for what is no dataclass.
    """
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(
        (field.name, _ALWAYS if field.metadata.get("default_in_key", True) else field.default)
        for field in dataclasses.fields(kind)
        if field.metadata.get("key", True)
    )


def step_key(stage: str, code: str | int, inputs: Any, tools: Any) -> str:
    """Return the key, a sha256 of 64 hex digits. Equal keys are the same work, which is done once.

    code: the digest of the farm's code that runs the stage; a number in records from before there
    was one.
    """
    text = json.dumps(
        {
            "stage": stage,
            "version": code,
            "inputs": canonical(inputs),
            "toolchain": canonical(tools),
        },
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()
