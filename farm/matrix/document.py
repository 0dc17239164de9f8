"""A YAML file as plain values that remember their lines, with variables and overrides applied."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from farm.errors import InputError, InputErrors

Key = tuple[str | int, ...]

_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")


@dataclass
class Document:
    """The values of one file and, for each path of keys in it, where it was written."""

    path: Path
    values: dict[str, Any]
    places: dict[Key, str] = field(default_factory=dict)

    def where(self, key: Sequence[str | int]) -> str:
        """`file:line` of `key`, or of its nearest parent that stands in the file."""
        for length in range(len(key), -1, -1):
            if place := self.places.get(tuple(key[:length])):
                return place
        return str(self.path)


_MOST_NODES = 100_000


def load(
    path: Path, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Document:
    """Read a matrix; raises InputError naming file and line for what YAML itself rejects."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"cannot read the matrix: {reason}", str(path)) from None
    document = Document(path, {})
    try:
        node = yaml.compose(_VARIABLE.sub(_shield, text), Loader=yaml.SafeLoader)
        values = _value(node, (), document) if node else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"not valid YAML: {error.problem}", line) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"not valid YAML: {error}", str(path)) from None
    if not isinstance(values, dict):
        raise InputError("a matrix is a mapping of keys to values", f"{path}:1")
    document.values = values
    for override in overrides:
        _apply(document, override)
    _fill(document, os.environ if env is None else env)
    return document


def _shield(match: re.Match[str]) -> str:
    """`${NAME}` as characters that YAML takes in any place, also within `{...}`."""
    return "\ue000" + match[0][2:-1].replace(":-", "\ue002") + "\ue001"


def _unshield(text: str) -> str:
    return text.replace("\ue000", "${").replace("\ue002", ":-").replace("\ue001", "}")


def _value(node: yaml.Node, key: Key, document: Document) -> Any:
    """Plain values of a YAML node; notes each key's line and rejects a key written twice."""
    document.places.setdefault(key, f"{document.path}:{node.start_mark.line + 1}")
    if len(document.places) > _MOST_NODES:
        raise InputError(f"more than {_MOST_NODES} values, aliases written out", str(document.path))
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, key, document)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*key, i), document) for i, item in enumerate(node.value)]
    try:
        value = yaml.SafeLoader("").construct_object(node)
        return _unshield(value) if isinstance(value, str) else value
    except (ValueError, TypeError) as error:
        raise InputError(f"cannot be read: {error}", document.where(key)) from None


def _mapping(node: yaml.MappingNode, key: Key, document: Document) -> dict[str, Any]:
    own = [id(name) for name, _ in node.value]
    yaml.SafeLoader("").flatten_mapping(node)  # `<<: *other`; what it merges comes first
    values: dict[str, Any] = {}
    merged: set[str] = set()
    for name_node, item in node.value:
        place = f"{document.path}:{name_node.start_mark.line + 1}"
        if not isinstance(name_node, yaml.ScalarNode):
            raise InputError("a key must be a plain word", place)
        name = _unshield(str(name_node.value))
        if id(name_node) not in own:
            merged.add(name)
        elif name in values and name not in merged:
            raise InputError(
                f"duplicate name {name!r}: it stands already at {document.where((*key, name))}",
                place,
            )
        document.places[(*key, name)] = place
        merged -= {name} if id(name_node) in own else set()
        values[name] = _value(item, (*key, name), document)
    return values


def _apply(document: Document, override: str) -> None:
    """Merge `a.b=value` into the values; the value is YAML, so `opsets=[11,17]` is a list."""
    place = f"override {override!r}"
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if "cfg_options" in keys[:-1]:  # below it stand dotted paths of the config, as one key each
        start = keys.index("cfg_options") + 1
        keys = [*keys[:start], ".".join(keys[start:])]
    if not equals or not all(keys):
        raise InputError("an override is key=value, for example dataset.limit=10", place)
    try:
        value = yaml.safe_load(text)
        json.dumps(value, default=str)  # an alias that holds itself is no value
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError(f"the value {text[:80]!r} is not valid YAML", place) from None
    parent: Any = document.values
    for part in keys[:-1]:
        parent = parent.setdefault(part, {}) if isinstance(parent, dict) else None
    if not isinstance(parent, dict):
        raise InputError(f"{'.'.join(keys[:-1])!r} is not a mapping", place)
    parent[keys[-1]] = value
    said = tuple(keys)
    for old in [key for key in document.places if key[: len(said)] == said]:
        del document.places[old]
    document.places[said] = place


def _fill(document: Document, env: Mapping[str, str]) -> None:
    """Replace `${NAME}` and `${NAME:-default}` in every string; names all unset ones at once."""
    errors: list[InputError] = []

    def filled(value: Any, key: Key) -> Any:
        if isinstance(value, dict):
            return {name: filled(item, (*key, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [filled(item, (*key, i)) for i, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        for name in _unset(value, env):
            errors.append(
                InputError(
                    f"the environment variable {name} is not set; set it "
                    f"(export {name}=...) or write ${{{name}:-default}}",
                    document.where(key),
                )
            )
        if "${" in _VARIABLE.sub("", value):
            torn = "a variable is written ${NAME} or ${NAME:-default}"
            errors.append(InputError(f"{value!r}: {torn}", document.where(key)))
        return _VARIABLE.sub(lambda match: env.get(match[1], match[2] or ""), value)

    document.values = filled(document.values, ())
    if errors:
        raise errors[0] if len(errors) == 1 else InputErrors(errors)


def _unset(text: str, env: Mapping[str, str]) -> Iterator[str]:
    for match in _VARIABLE.finditer(text):
        if match[1] not in env and match[2] is None:
            yield match[1]
