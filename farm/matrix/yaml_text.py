"""YAML text to nodes: what is not YAML, or nested too deep, is refused at its line."""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml

from farm.errors import InputError
from farm.matrix.variables import SHIELDS, shield

STANDARD = "tag:yaml.org,2002:"
SCALARS = ("null", "bool", "int", "float", "str", "merge")
MOST_NESTED = 50
_MOST_NODES = 40_000

_NOT_YAML = re.compile(
    f"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[{SHIELDS}]"
)


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
    """The root node of one document, None where it is empty; variables in it are shielded.

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
    except ValueError as error:  # the code of a character that does not exist
        line, reason = loader.line, str(error)
    raise InputError(f"not valid YAML: {str(reason)[:200]}", place(line + 1))
