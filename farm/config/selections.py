"""The rules of `include` and `exclude` as people write them: `opset: 11` as well as `opsets: [11]`.

Each becomes the one form that the schema has: the plural key with a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from farm.errors import InputError, together

if TYPE_CHECKING:
    from farm.config.document import Document
    from farm.config.variables import Key

PLURALS = {
    "model": "models",
    "opset": "opsets",
    "shape": "shapes",
    "precision": "precisions",
    "workspace": "workspaces",
    "runtime": "runtimes",
    "target": "targets",
}
"""Of each axis; `postprocess` is the same in both."""

_LISTS = {*PLURALS.values(), "postprocess"}


def with_lists(document: Document) -> Document:
    """Return the document with plural keys and lists in its rules; other values stay as they are.

    Raises:
        InputError: a rule has an axis by both names; names the line.
    """
    values, places, wrong = dict(document.values), dict(document.places), list[InputError]()
    for kind in ("include", "exclude"):
        if isinstance(rules := values.get(kind), list):
            for i, rule in enumerate(rules):
                wrong += _twice(document, (kind, i), rule)
                _move(places, (kind, i), rule)
            values[kind] = [_rule(one) for one in rules]
    if wrong:
        raise together(wrong)
    return replace(document, values=values, places=places)


def _rule(rule: Any) -> Any:
    if not isinstance(rule, Mapping):
        return rule
    return {PLURALS.get(name, name): _listed(name, value) for name, value in rule.items()}


def _listed(name: str, value: Any) -> Any:
    """A word as a list of one. YAML's null is the name of a runtime."""
    plural = PLURALS.get(name, name)
    if plural not in _LISTS or isinstance(value, list | dict):
        return value
    return None if value is None and plural != "runtimes" else [value]


def _twice(document: Document, key: Key, rule: Any) -> list[InputError]:
    if not isinstance(rule, Mapping):
        return []
    return [
        InputError(f"give either {one!r} or {many!r}, not both", document.where((*key, one)))
        for one, many in PLURALS.items()
        if one in rule and many in rule
    ]


def _move(places: dict[Key, str], key: Key, rule: Any) -> None:
    """Let errors about the plural key, or about its list, find the line of what was written."""
    for name in rule if isinstance(rule, Mapping) else ():
        one, many = (*key, name), (*key, str(PLURALS.get(name, name)))
        for old in [place for place in places if place[:3] == one]:
            places[(*many, *old[3:])] = places[old]
