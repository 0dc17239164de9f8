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


@dataclass(frozen=True)
class Part:
    """One plain data set. place: its key in the config, as `data.train.dataset`."""

    place: str
    settings: Mapping[str, Any]

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
    """The plain data sets of `data.<use>`, as mmdet's `build_dataset` would open them."""
    return list(_parts((config.get("data") or {}).get(use), f"data.{use}"))


def _parts(value: Any, place: str) -> Iterator[Part]:
    if isinstance(value, list | tuple):
        for i, one in enumerate(value):
            yield from _parts(one, f"{place}.{i}")
    elif not isinstance(value, Mapping):
        return
    elif inner := next((name for name in ("datasets", "dataset") if value.get(name)), None):
        yield from _parts(value[inner], f"{place}.{inner}")
    elif isinstance(files := value.get("ann_file"), list | tuple):
        for i, file in enumerate(files):
            yield Part(f"{place}.ann_file.{i}", {**value, "ann_file": file})
    else:
        yield Part(place, value)
