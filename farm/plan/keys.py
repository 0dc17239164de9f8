"""The key of a step: the full sha256 of everything that decides what it produces."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

# The same library under another distribution's name.
_ALTERNATIVES = {
    "onnxruntime": ("onnxruntime-gpu",),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python"),
}


@cache
def version(package: str) -> str:
    """The installed version, read from metadata without importing; 'absent' if there is none."""
    for name in (package, *_ALTERNATIVES.get(package, ())):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return found if name == package else f"{name} {found}"
    return "absent"


def toolchain(packages: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((package, version(package)) for package in sorted(set(packages)))


_PLAIN = (str, int, float, type(None))


def canonical(value: Any) -> Any:
    """JSON values of frozen inputs, without the fields that are names or places (`key=False`)."""
    if isinstance(value, _PLAIN):
        return value
    kind: Any = type(value)
    if fields := _fields(kind):
        return _frozen(value, fields)
    if isinstance(value, Mapping):
        return {str(name): canonical(item) for name, item in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    return value


_KNOWN: dict[int, tuple[Any, Any]] = {}
"""What was made of a frozen value, by its identity, which the value kept here keeps its own. The
inputs of ten thousand steps are put together from some hundred models, shapes and engines."""

_MOST_KNOWN = 1 << 17


def _frozen(value: Any, fields: tuple[dataclasses.Field[Any], ...]) -> Any:
    if found := _KNOWN.get(id(value)):
        return found[1]
    made = {f.name: canonical(own) for f in fields if _decides(f, own := getattr(value, f.name))}
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[id(value)] = value, made
    return made


@cache
def _fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()


def _decides(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field of the inputs is part of the key."""
    if not field.metadata.get("default_in_key", True) and value == field.default:
        return False
    return bool(field.metadata.get("key", True))


def step_key(stage: str, version_of_stage: int, inputs: Any, tools: Any) -> str:
    """sha256, 64 hex digits. The same key is the same work, done once, for ever."""
    text = json.dumps(
        {
            "stage": stage,
            "version": version_of_stage,
            "inputs": canonical(inputs),
            "toolchain": canonical(tools),
        },
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()
