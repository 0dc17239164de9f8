"""The models of the table, out of families.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from farm.errors import InputError, nearest
from farm.units import Dims, parse_dims

KINDS = ("fixed", "dynamic")
"""Of files: one shape, or free height, width and batch."""

FILE = Path(__file__).with_name("families.yaml")


@dataclass(frozen=True)
class Family:
    """One model: its config, and how random weights are made to find objects with it.

    shape: traced; others: further sizes that a file with dynamic axes is tried at.
    dynamic: False where the model itself takes one size only.
    """

    name: str
    config: str
    lift: dict[str, tuple[float, float]]
    shape: Dims
    others: tuple[Dims, ...]
    options: dict[str, Any]
    seed: int
    published: bool
    dynamic: bool

    @property
    def kinds(self) -> tuple[str, ...]:
        return KINDS if self.dynamic else KINDS[:1]


def read(path: Path = FILE) -> dict[str, Family]:
    """Every family, in the order of the file; `_defaults` holds for those that say nothing.

    Raises:
        InputError: the file is not there, or not in the form of families.yaml.
    """
    try:
        entries = yaml.safe_load(path.read_text())
        return _families(entries)
    except (OSError, yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not a table of models: {error}", str(path)) from error


def _families(entries: dict[str, dict[str, Any]]) -> dict[str, Family]:
    defaults = entries.get("_defaults", {})
    # A name that begins with _ is a part that others take in.
    return {
        name: _family(name, **defaults | entry)
        for name, entry in entries.items()
        if not name.startswith("_")
    }


def chosen(names: Iterable[str], every: Mapping[str, Family] | None = None) -> list[Family]:
    """The named ones of `every` (default: mmdet's); all where none is named.

    Raises:
        InputError: no such family.
    """
    every = read() if every is None else every
    for name in names:
        if name not in every:
            raise InputError(f"no family {name!r}{nearest(name, every)}", "--family")
    return [every[name] for name in names] or list(every.values())


def _family(
    name: str, config: str, lift: dict[str, list[float]] | None = None, shape: str = "256x320",
    others: tuple[str, ...] = ("320x256", "192x352"), options: dict[str, Any] | None = None,
    seed: int = 1, published: bool = False, dynamic: bool = True,
) -> Family:  # fmt: skip
    lifts = {part: (mean, spread) for part, (mean, spread) in (lift or {}).items()}
    sizes = tuple(map(parse_dims, others))
    return Family(
        name, config, lifts, parse_dims(shape), sizes, options or {}, seed, published, dynamic
    )
