"""The models of the table: families.yaml, or a user's file of that form, with their digests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from farm import specs
from farm.config import yaml_values
from farm.errors import InputError, nearest
from farm.files import jsonfile
from farm.parsing import parse_dims
from farm.plan.content.configs import config_file, find_config
from farm.specs import Dims

KINDS = ("fixed", "dynamic")
"""The kinds of exported files: of one shape, or with free height, width and batch."""

_MOST_BYTES = 1 << 20

FILE = Path(__file__).with_name("families.yaml")


@dataclass(frozen=True)
class Family:
    """One model: its config, and how random weights are made that find objects with it.

    layer_outputs: part of a layer's name, with mean and spread of the layer's outputs. shape: the
    traced one. others: further sizes that a file with dynamic axes is run at. dynamic: False if the
    model itself takes only one size.
    """

    name: str
    config: str
    layer_outputs: dict[str, tuple[float, float]]
    shape: Dims
    others: tuple[Dims, ...]
    options: dict[str, Any]
    seed: int
    published: bool
    dynamic: bool

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of files that it is exported to."""
        return KINDS if self.dynamic else KINDS[:1]

    def sizes(self, kind: str) -> list[Dims]:
        """Return the sizes that a file of this kind is run with.

        A file with dynamic axes gets batches of 1 and 2 at the traced size, and two other sizes.
        """
        if kind == "fixed":
            return [self.shape]
        return [self.shape, replace(self.shape, n=2), *self.others]

    def profile(self, kind: str) -> specs.Shape:
        """Return the shape profile that has every size of this kind."""
        sizes = self.sizes(kind)
        low = Dims(1, 3, min(x.h for x in sizes), min(x.w for x in sizes))
        high = Dims(max(x.n for x in sizes), 3, max(x.h for x in sizes), max(x.w for x in sizes))
        return specs.Shape(kind, low, self.shape, high)

    def model(self, checkpoint: str = "") -> specs.Model:
        """Return the model whose weights are in the file `checkpoint`, or will be."""
        config, options = config_file(self.config, Path()), tuple(self.options.items())
        return specs.Model(self.name, "mmdet", config, specs.File(checkpoint, ""), options)


def read(path: Path = FILE) -> dict[str, Family]:
    """Read every family, in the order of the file; `_defaults` has what the others may leave out.

    Raises:
        InputError: the file is not there, or an entry is wrong; with the line.
    """
    try:
        text = jsonfile.read_bytes(path, _MOST_BYTES).decode()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputError(f"not a table of models: {reason}", str(path)) from error
    entries, places = yaml_values.read(text, lambda line: f"{path}:{line}")
    if not isinstance(entries, dict):
        raise InputError(
            "not a table of models: expected their names, each with a config", str(path)
        )
    lines = {str(key[0]): place for key, place in places.items() if len(key) == 1}
    return _families(entries, lines)


def _families(entries: dict[Any, Any], lines: Mapping[str, str]) -> dict[str, Family]:
    found = {}
    for name, entry in entries.items():
        if str(name).startswith("_"):
            continue  # an anchor for other entries
        where = lines.get(str(name), "")
        try:
            found[str(name)] = _family(str(name), **_checked(entries.get("_defaults", {}) | entry))
        except InputError as error:
            raise InputError(f"{name}: {error.message}", where) from None
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{name}: not a model of the table: {error}", where) from error
    return found


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    """Raise InputError for an unknown key, and for a config that is not there."""
    known = {field.name for field in fields(Family)} - {"name"}
    for key in entry:
        if key not in known:
            raise InputError(f"there is no {key!r}{nearest(str(key), known)}")
    if not isinstance(entry.get("config"), str):
        raise InputError("it has no `config`; give a path, or a config that mmdet ships")
    if find_config(entry["config"], Path()) is None:
        raise InputError(
            f"config {entry['config']!r} is neither a file nor one that the installed mmdet ships"
        )
    return entry


def chosen(names: Iterable[str], every: Mapping[str, Family] | None = None) -> list[Family]:
    """Return the named families of `every` (default: mmdet's), or all if none is named.

    Raises:
        InputError: no such family.
    """
    every, names = read() if every is None else every, list(names)
    for name in names:
        if name not in every:
            raise InputError(f"no family {name!r}{nearest(name, every)}", "--family")
    return [every[name] for name in dict.fromkeys(names)] or list(every.values())


def _family(
    name: str, config: str, layer_outputs: dict[str, list[float]] | None = None,
    shape: str = "256x320", others: tuple[str, ...] = ("320x256", "192x352"),
    options: dict[str, Any] | None = None, seed: int = 1, published: bool = False,
    dynamic: bool = True,
) -> Family:  # fmt: skip
    outputs = {part: (mean, spread) for part, (mean, spread) in (layer_outputs or {}).items()}
    sizes = tuple(map(parse_dims, others))
    return Family(
        name, config, outputs, parse_dims(shape), sizes, options or {}, seed, published, dynamic
    )
