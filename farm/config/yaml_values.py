"""YAML text to plain values, strictly: an error names the line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml.constructor import SafeConstructor

from farm.config.variables import SHIELDS, Key, not_plain, shield, unshield
from farm.errors import InputError, shown

STANDARD = "tag:yaml.org,2002:"
SCALARS = ("null", "bool", "int", "float", "str", "merge")
MOST_NESTED = 50
_MOST_NODES = 40_000

_NOT_YAML = re.compile(
    f"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[{SHIELDS}]"
)

Pairs = dict[str, tuple[yaml.Node, yaml.Node]]

MOST_VALUES = 20_000

_CONSTRUCTOR = SafeConstructor()
_MERGE = f"{STANDARD}merge"
_READS = {f"!!{kind}": getattr(_CONSTRUCTOR, f"construct_yaml_{kind}") for kind in SCALARS[:-1]}
_READS["!!merge"] = _READS["!!str"]


class _Loader(yaml.SafeLoader):
    """Refuses deep nesting while it reads, and takes dates and a lone `=` for text."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag.removeprefix(STANDARD) in SCALARS]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _depth = _count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        self._count += 1
        if self._depth > MOST_NESTED:
            raise self._error(f"nested more than {MOST_NESTED} deep")
        if self._count > _MOST_NODES:
            raise self._error(f"more than {_MOST_NODES} keys and values")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _error(self, problem: str) -> yaml.MarkedYAMLError:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def compose(text: str, place: Callable[[int], str]) -> yaml.Node | None:
    """Return the root node of one document, None where it is empty; variables are shielded.

    place: of a line, counted from 1, as errors name it.

    Raises:
        InputError: the text is not YAML, or nested more than `MOST_NESTED` deep.
    """
    if odd := _NOT_YAML.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise InputError(
            f"not valid YAML: the character U+{ord(odd[0]):04X} is not allowed", place(line)
        )
    loader = _Loader(shield(text))
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line if mark else loader.line
        reason = error.problem or error.context
    except (ValueError, OverflowError) as error:  # the code of a character that does not exist
        line, reason = loader.line, str(error)
    raise InputError(f"not valid YAML: {str(reason)[:200]}", place(line + 1))


def read(text: str, place: Callable[[int], str]) -> tuple[Any, dict[Key, str]]:
    """Return the values of one YAML document, None where it is empty, and the place of each.

    place: of a line, counted from 1, as errors name it.

    Raises:
        InputError: something is not YAML, not a plain value, or over a limit; names its line.
    """
    node, reader = compose(text, place), _Reader(place)
    value = None if node is None else reader.value(node, ())
    return value, reader.places


@dataclass
class _Reader:
    """Writes aliases and merges out; `open` holds the nodes that contain the one being read."""

    place: Callable[[int], str]
    places: dict[Key, str] = field(default_factory=dict)
    count: int = 0
    open: set[int] = field(default_factory=set)
    pairs: dict[int, Pairs] = field(default_factory=dict)

    def value(self, node: yaml.Node, key: Key) -> Any:
        self.places.setdefault(key, self._where(node))
        self._add(node, 1)
        if len(key) > MOST_NESTED:
            self._refuse(node, f"nested more than {MOST_NESTED} deep, aliases written out")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._enter(node)
        value = self._mapping(node, key) if _maps(node) else self._list(node, key)
        self.open.remove(id(node))
        return value

    def _list(self, node: yaml.Node, key: Key) -> list[Any]:
        return [self.value(item, (*key, i)) for i, item in enumerate(node.value)]

    def _mapping(self, node: yaml.Node, key: Key) -> dict[str, Any]:
        values = {}
        for name, (name_node, item) in self._pairs(node).items():
            self.places[(*key, name)] = self._where(name_node)
            values[name] = self.value(item, (*key, name))
        return values

    def _pairs(self, node: yaml.Node) -> Pairs:
        """A mapping's entries by name: those that `<<` merges, and its own over them."""
        if id(node) not in self.pairs:
            merged: Pairs = {}
            own: Pairs = {}
            for name_node, item in node.value:
                name = self._name(name_node)
                if name in own:
                    before = self._where(own[name][0])
                    self._refuse(
                        name_node, f"duplicate name {shown(name)}: it stands already at {before}"
                    )
                own[name] = (name_node, item)
                if name_node.tag == _MERGE:
                    for entries in self._merged(item):
                        merged |= entries
            own = {name: pair for name, pair in own.items() if pair[0].tag != _MERGE}
            self.pairs[id(node)] = {**merged, **own}
        return self.pairs[id(node)]

    def _merged(self, node: yaml.Node) -> Iterator[Pairs]:
        """The entries of what `<<` names, a mapping or a list of them; the first binds most."""
        several = isinstance(node, yaml.SequenceNode)
        for other in reversed(node.value) if several else [node]:
            if not _maps(other):
                self._refuse(other, "`<<` merges a mapping, or a list of mappings")
            if id(other) not in self.pairs:
                self._enter(other)
                self._pairs(other)
                self.open.remove(id(other))
            self._add(other, len(self.pairs[id(other)]))
            yield self.pairs[id(other)]

    def _name(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._refuse(node, "a key must be a plain word")
        self._tag(node)
        return self._text(node)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        tag, text = self._tag(node), self._text(node)
        try:
            value = _READS[tag](node)
        except (ValueError, LookupError, OverflowError):
            self._refuse(node, f"{shown(text)} is not what the tag {tag} says")
        if isinstance(value, int) and abs(value) >= 2**63:
            self._refuse(node, f"the integer {shown(text)} has more than 64 bits")
        return text if isinstance(value, str) else value

    def _text(self, node: yaml.Node) -> str:
        text = unshield(str(node.value))
        if reason := not_plain(text):
            self._refuse(node, f"the text {shown(text)} {reason}")
        return text

    def _tag(self, node: yaml.Node) -> str:
        """Its type, as !!int; refused where it is none of those that a matrix has."""
        tag = str(node.tag).replace(STANDARD, "!!", 1)
        known = (
            _READS if isinstance(node, yaml.ScalarNode) else ["!!map" if _maps(node) else "!!seq"]
        )
        if tag not in known:
            self._refuse(node, f"the tag {shown(tag)} is not taken here; leave it out")
        return tag

    def _enter(self, node: yaml.Node) -> None:
        self._tag(node)
        if id(node) in self.open:
            self._refuse(node, "it contains itself")
        self.open.add(id(node))

    def _add(self, node: yaml.Node, values: int) -> None:
        self.count += values
        if self.count > MOST_VALUES:
            self._refuse(node, f"more than {MOST_VALUES} values, aliases written out")

    def _where(self, node: yaml.Node) -> str:
        return self.place(node.start_mark.line + 1)

    def _refuse(self, node: yaml.Node, message: str) -> NoReturn:
        raise InputError(message, self._where(node))


def _maps(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode)
