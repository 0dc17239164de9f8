"""Break functions of modules that are imported already: put other code into them in place.

Functions that were imported by name, decorated or kept in a table are the same objects, so they are
found among all objects of the process. What cannot be broken so is what ran at import: the code of
modules and classes, the defaults of arguments, and what no function object is there for.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType

from mutations import Mutant, tree

Swap = tuple[FunctionType, CodeType]
_Key = tuple[str, int]
"""Of a code in its module: its name and first line."""


def _key(code: CodeType) -> _Key:
    return code.co_name, code.co_firstlineno


class Calls:
    """Which code of a folder runs in this process between `start` and `stop`."""

    def __init__(self, folder: Path) -> None:
        self._folder = f"{folder}/"
        self._seen: set[CodeType] = set()

    def start(self) -> None:
        sys.setprofile(self._called)

    def stop(self) -> set[tuple[str, _Key]]:
        sys.setprofile(None)
        found = (one for one in self._seen if one.co_filename.startswith(self._folder))
        return {(one.co_filename, _key(one)) for one in found}

    def _called(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            self._seen.add(frame.f_code)


class Functions:
    """The functions of a copy of the project that this process has imported.

    at_import: the codes that ran while it did, with their files.
    """

    def __init__(self, project: Path, at_import: Collection[tuple[str, _Key]]) -> None:
        self._project = project
        self._at_import = at_import
        plain = [one for one in sys.modules.values() if type(one) is ModuleType]  # no lazy ones
        self._files = {vars(one).get("__file__") for one in plain}
        self._live: dict[str, dict[_Key, list[FunctionType]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._caches: list[functools._lru_cache_wrapper[object]] = []
        for one in gc.get_objects():
            if type(one) is FunctionType:
                self._live[one.__code__.co_filename][_key(one.__code__)].append(one)
            elif type(one) is functools._lru_cache_wrapper and self._is_ours(one.__wrapped__):
                self._caches.append(one)

    def _is_ours(self, function: object) -> bool:
        code = getattr(function, "__code__", None)
        return code is not None and code.co_filename.startswith(f"{self._project}/")

    def forget(self) -> None:
        """Empty the project's caches of results: they are those of the unbroken functions."""
        for one in self._caches:
            one.cache_clear()

    def swaps(self, mutant: Mutant) -> list[Swap] | None:
        """Which functions get which code; None where that would not make the mutant. Empty for a
        module that is not imported yet: its text is enough."""
        path = str(self._project / mutant.path)
        if path not in self._files:
            return []
        broken, changed = self._compared(mutant)
        live = self._live[path]
        if not all(any(key in live for key in _keys(chain)) for chain in changed):
            return None
        codes = defaultdict(list)
        for code in _codes(broken):
            codes[_key(code)].append(code)
        found = []
        for key in {key for chain in changed for key in _keys(chain) if key in live}:
            for function in live[key]:
                if len(codes[key]) != 1 or not _fits(codes[key][0], function.__code__):
                    return None
                found.append((function, codes[key][0]))
        return found

    def ran_at_import(self, mutant: Mutant) -> bool:
        """Whether what the mutant breaks has run at import, too, where it was not broken."""
        path = str(self._project / mutant.path)
        _, changed = self._compared(mutant)
        return any((path, _key(chain[-1])) in self._at_import for chain in changed)

    def _compared(self, mutant: Mutant) -> tuple[CodeType, list[Sequence[CodeType]]]:
        path = str(self._project / mutant.path)
        plain, broken = (
            compile(tree(mutant, broken=one), path, "exec", dont_inherit=True)
            for one in (False, True)
        )
        return broken, list(_changed(plain, broken, ()))


def _keys(codes: Sequence[CodeType]) -> list[_Key]:
    return [_key(code) for code in codes]


def _fits(code: CodeType, other: CodeType) -> bool:
    """Whether a function may have the one code in place of the other."""
    return code.co_freevars == other.co_freevars


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in _inner(code):
        yield from _codes(one)


def _inner(code: CodeType) -> list[CodeType]:
    return [one for one in code.co_consts if isinstance(one, CodeType)]


def _changed(
    plain: CodeType, broken: CodeType, outer: Sequence[CodeType]
) -> Iterator[Sequence[CodeType]]:
    """The codes that differ, each after those that it is in."""
    chain = (*outer, plain)
    inner = _inner(plain), _inner(broken)
    if _own(plain) != _own(broken) or len(inner[0]) != len(inner[1]):
        yield chain
    else:
        for one, other in zip(*inner, strict=True):
            yield from _changed(one, other, chain)


def _own(code: CodeType) -> tuple[object, ...]:
    """What a code is without those in it."""
    constants = [repr(one) for one in code.co_consts if not isinstance(one, CodeType)]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return code.co_code, *names, constants
