"""The data sets that a config names, out of their lists and wrappers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
from mmdet.datasets import DATASETS

_BY_FILE = ("ann_file", "img_prefix", "seg_prefix", "proposal_file")
"""What a data set of several annotation files may have a list of, an entry for each."""


@dataclass(frozen=True)
class Part:
    """One plain data set with one annotation file.

    place: the key of its settings in the config, as `data.train.dataset`. index: which of its
    annotation files, where the settings list several; the parts of a list share their place.
    wrappers: what stands around it, the innermost first, as parts of their own.
    """

    place: str
    settings: Mapping[str, Any]
    index: int | None = None
    wrappers: tuple[Part, ...] = ()

    @property
    def file_option(self) -> str:
        """By which key `cfg_options` set its annotation file."""
        return f"{self.place}.ann_file" + ("" if self.index is None else f".{self.index}")

    @property
    def kind(self) -> Any:
        """Its class; None where it has no type, or one that nothing registered."""
        kind = self.settings.get("type")
        found = DATASETS.get(kind) if isinstance(kind, str) else kind
        return found if isinstance(found, type) else None

    @property
    def file(self) -> str:
        """Its annotation file, under `data_root` as mmdet resolves it; empty where it has none."""
        name, root = self.settings.get("ann_file"), self.settings.get("data_root")
        return str(Path(root or "") / name) if isinstance(name, str) and name else ""


def parts(config: mmcv.Config, use: str) -> list[Part]:
    """The plain data sets of `data.<use>`, as mmdet's `build_dataset` would open them.

    What is no data set at all, but stands where one belongs, is one without settings.
    """
    value = (config.get("data") or {}).get(use)
    return [] if value is None else list(_parts(value, f"data.{use}", ()))


def _parts(value: Any, place: str, wrappers: tuple[Part, ...]) -> Iterator[Part]:
    if isinstance(value, list | tuple):
        for i, one in enumerate(value):
            yield from _parts(one, f"{place}.{i}", wrappers)
    elif not isinstance(value, Mapping):
        yield Part(place, {}, wrappers=wrappers)
    elif inner := next((name for name in ("datasets", "dataset") if _wraps(value, name)), None):
        around = (Part(place, value), *wrappers)
        yield from _parts(value[inner], f"{place}.{inner}", around)
    elif isinstance(files := value.get("ann_file"), list | tuple):
        for i in range(len(files)):
            yield Part(place, _of_file(value, i), i, wrappers)
    else:
        yield Part(place, value, wrappers=wrappers)


def _wraps(value: Mapping[str, Any], name: str) -> bool:
    inner = value.get(name)
    return bool(inner) and isinstance(inner, list | tuple | Mapping)


def _of_file(value: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The settings of a data set of several annotation files, for file `i`."""
    own = {
        name: value[name][i]
        for name in _BY_FILE
        if isinstance(value.get(name), list | tuple) and i < len(value[name])
    }
    return {name: one for name, one in value.items() if name != "separate_eval"} | own
