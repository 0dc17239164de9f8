"""Registries: the parts of one kind by name, the farm's own and those of installed packages.

A package of someone else's adds a part by an entry point whose object is a descriptor: the same
frozen dataclass that describes the farm's own part. Descriptors import no heavy library.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from farm.errors import InputError, shown
from farm.failures import in_one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True, kw_only=True)
class Part:
    """What all descriptors have.

    name: as a matrix writes it. packages: those whose versions decide what the part makes; they
    are in the keys. The registry adds the package that an entry point comes from, so that its
    version and changed code are in the keys, too. module: where the part's code begins; the
    registry fills it in where that is the module of the descriptor.
    """

    name: str
    packages: tuple[str, ...] = ()
    module: str = ""


P = TypeVar("P", bound=Part)
V = TypeVar("V")


class Registry(Mapping[str, P], Generic[P]):
    """The parts of one kind, loaded when one is first used.

    own: the farm's, as `module:NAME`. group: of the entry points that add others. taken: what has
    further names that those must not have.
    """

    def __init__(
        self,
        kind: type[P],
        group: str,
        own: tuple[str, ...] = (),
        taken: tuple[Container[str], ...] = (),
    ) -> None:
        self._kind, self._group, self._own, self._taken = kind, group, own, taken

    @cached_property
    def parts(self) -> dict[str, P]:
        """All parts by name.

        Raises:
            InputError: an entry point cannot be loaded, or is no part of this kind with a new name.
        """
        found: dict[str, P] = {}
        for reference in self._own:
            part: P = resolve_name(reference)
            found[part.name] = _in_module(part, reference.partition(":")[0])
        for point, part in outside(self._group, self._kind):
            if part.name in found or any(part.name in names for names in self._taken):
                raise refused(point, self._group, self._kind, part)
            found[part.name] = _of_package(part, point)
        return found

    def __getitem__(self, name: str) -> P:
        return self.parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self.parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


class Names(Sequence[str]):
    """The names of the farm's own parts, then of other packages' parts, loaded when first used."""

    def __init__(self, own: Mapping[str, Any], others: Mapping[str, Any]) -> None:
        self._own, self._others = own, others

    def __getitem__(self, index: Any) -> Any:
        return (*self._own, *self._others)[index]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._own, *self._others))

    def __len__(self) -> int:
        return len(self._own) + len(self._others)


class Lazy(Mapping[str, V], Generic[V]):
    """A mapping that is made when it is first read."""

    def __init__(self, make: Callable[[], dict[str, V]]) -> None:
        self._make = make

    @cached_property
    def _values(self) -> dict[str, V]:
        return self._make()

    def __getitem__(self, name: str) -> V:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def named(reference: str) -> dict[str, Any]:
    """Return the parts of the sequence `module:NAME` by their names."""
    return {part.name: part for part in resolve_name(reference)}


T = TypeVar("T")


def outside(group: str, kind: type[T]) -> Iterator[tuple[EntryPoint, T]]:
    """Load what installed packages add under this group, each with its entry point.

    Raises:
        InputError: an entry point cannot be loaded, or is no `kind`.
    """
    for point in sorted(_entry_points().select(group=group)):
        try:
            found = point.load()
        except Exception as error:  # another package's code
            message = f"cannot be loaded: {in_one_line(error)}"
            raise InputError(message, _where(point, group)) from error
        if not isinstance(found, kind):
            raise refused(point, group, kind, found)
        yield point, found


@cache
def _entry_points() -> Any:
    """Return those of all installed packages, each of which has a file that is read for it."""
    from importlib.metadata import entry_points

    return entry_points()


def _in_module(part: P, module: str) -> P:
    return part if part.module else replace(part, module=module)


def _of_package(part: P, point: EntryPoint) -> P:
    own = (point.dist.name,) if point.dist else ()
    packages = (*part.packages, *(name for name in own if name not in part.packages))
    return _in_module(replace(part, packages=packages), point.module)


def refused(point: EntryPoint, group: str, kind: type, found: object) -> InputError:
    """Return the error of an entry point that gives no new part of this kind."""
    message = f"expected a {kind.__name__} of a new name, not {shown(found)}"
    return InputError(message, _where(point, group))


def _where(point: EntryPoint, group: str) -> str:
    return f"entry point {point.name} = {point.value} ({group})"
