"""A matrix file as plain values that remember their lines: YAML, variables, overrides."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farm.config.variables import Key, fill
from farm.config.yaml_values import MOST_NESTED, read
from farm.errors import InputError, shown
from farm.files import expanded

_MOST_BYTES = 1 << 20
_MOST_OVERRIDES = 1000
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass
class Document:
    """The values of one file, with the line or the override that set each path of keys.

    written: the values with overrides, before variables were filled in: those may be secrets.
    text: the file as it is written.
    """

    path: Path
    values: dict[str, Any]
    places: dict[Key, str] = field(default_factory=dict)
    overridden: dict[Key, str] = field(default_factory=dict)
    written: dict[str, Any] = field(default_factory=dict)
    text: str = ""

    @property
    def folder(self) -> Path:
        """The folder from which relative paths start: that of the file, or what it has as
        `folder`. Raises InputError where that can be no path."""
        own, named = self.path.resolve().parent, self.values.get("folder")
        if not isinstance(named, str):
            return own
        try:
            return expanded(named, own).resolve()
        except InputError as error:
            raise InputError(error.message, self.where(("folder",))) from None

    def where(self, key: Sequence[str | int]) -> str:
        """Return `file:line` or the override that set `key`, or its nearest parent in the file."""
        nearest = [tuple(key[:length]) for length in range(len(key), -1, -1)]
        for said in (self.overridden, self.places):
            if place := next((said[one] for one in nearest if one in said), None):
                return place
        return str(self.path)


def load(
    path: Path, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Document:
    """Read a matrix, apply overrides and fill in variables.

    env: the variables; those of the environment by default.

    Raises:
        InputError: it cannot be read, or is not a mapping of plain values; names the line.
    """
    text = _text(path)
    values, places = read(text, lambda line: f"{path}:{line}")
    if values is not None and not isinstance(values, dict):
        raise InputError("a matrix is a mapping of keys to values", f"{path}:1")
    document = Document(path, values or {}, {(): f"{path}:1"} | places, text=text)
    if len(overrides) > _MOST_OVERRIDES:
        raise InputError(f"more than {_MOST_OVERRIDES} overrides; write them into the matrix")
    for override in overrides:
        _apply(document, override)
    variables = os.environ if env is None else env
    document.written = dict(document.values)
    document.values = fill(document.values, variables, document.where)
    _include(document, "environments", variables)
    return document


def kept(path: Path, written: dict[str, Any], env: Mapping[str, str] | None = None) -> Document:
    """Return the document of a matrix that was kept, with the variables of today filled in.

    written: as `Document.written`. env: as of `load`.

    Raises:
        InputError: a variable is not set.
    """
    document = Document(path, {}, {(): str(path)}, written=written)
    variables = os.environ if env is None else env
    document.values = fill(written, variables, document.where)
    return document


def _include(document: Document, key: str, env: Mapping[str, str]) -> None:
    """Put what a file says in place of its name. The name is relative to the matrix's folder."""
    name, place = document.values.get(key), document.where((key,))
    if not isinstance(name, str):
        return
    path = document.folder / Path(name).expanduser()
    try:
        values, places = read(_text(path, key), lambda line: f"{path}:{line}")
    except InputError as error:
        raise error if error.where != str(path) else InputError(str(error), place) from None
    if not isinstance(values, dict):
        raise InputError(f"{key} are a mapping of names to values", f"{path}:1")
    document.overridden = {one: at for one, at in document.overridden.items() if one[0] != key}
    document.places |= {(key, *inner): at for inner, at in places.items()} | {(key,): f"{path}:1"}
    document.written[key] = values
    document.values[key] = fill({key: values}, env, document.where)[key]


def _text(path: Path, what: str = "the matrix") -> str:
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"cannot read {what}: it is not a file", str(path))
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot read {what}: {reason}", str(path)) from None
    if len(data) > _MOST_BYTES:
        raise InputError("it has more than 1 MiB, which no matrix needs", str(path))
    if data.startswith(_UTF_16):
        raise InputError(
            f"cannot read {what}: it is UTF-16 or UTF-32; save it as UTF-8", f"{path}:1"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = "it is not UTF-8 text; save it as UTF-8"
        raise InputError(f"cannot read {what}: {reason}", f"{path}:{line}") from None


def _apply(document: Document, override: str) -> None:
    """Merge `a.b=value` into the values; the value is YAML, so `opsets=[11,17]` is a list."""
    place = f"override {shown(override)}"
    name, equals, text = override.partition("=")
    above, options, path = name.strip().partition(".cfg_options.")
    keys = above.split(".")
    if options:  # below it stand dotted paths of the config, as one key each
        keys += ["cfg_options", path]
    if not equals or not all(keys):
        raise InputError("an override is key=value, for example dataset.limit=10", place)
    if len(keys) > MOST_NESTED:
        raise InputError(f"the key is nested more than {MOST_NESTED} deep", place)
    value, _ = read(text, lambda _: place)
    parent: Any = document.values
    for part in keys[:-1]:
        parent = parent.setdefault(part, {}) if isinstance(parent, dict) else None
    if not isinstance(parent, dict):
        raise InputError(f"{shown('.'.join(keys[:-1]))} is not a mapping", place)
    parent[keys[-1]] = value
    said = tuple(keys)
    for old in [key for key in document.overridden if key[: len(said)] == said]:
        del document.overridden[old]
    document.overridden[said] = place
