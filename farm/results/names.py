"""Names of columns in files and on the command line: AP has those that MMDetection prints.

In rows it is `box_ap50` and `mask_ap`, in files, CSV, JSON and conditions `bbox_mAP_50` and
`segm_mAP`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

_KINDS = {"box": "bbox", "mask": "segm"}
_INNER = re.compile(r"^(box|mask)_ap(50|75)?(?=_|$)")
_OUTER = re.compile(rf"^({'|'.join(_KINDS.values())})_mAP(?:_(50|75))?(?=_|$)")


@lru_cache(maxsize=4096)
def outer(name: str) -> str:
    """Return the name of a column as files have it: `box_ap50` -> `bbox_mAP_50`."""
    return _INNER.sub(lambda m: f"{_KINDS[m[1]]}_mAP" + (f"_{m[2]}" if m[2] else ""), name)


@lru_cache(maxsize=4096)
def inner(name: str) -> str:
    """Return the name of a column as rows have it; names that are so already stay."""
    kinds = {own: kind for kind, own in _KINDS.items()}
    return _OUTER.sub(lambda m: f"{kinds[m[1]]}_ap{m[2] or ''}", name)


def with_outer_names(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of any columns by their outer names."""
    return [{outer(name): value for name, value in row.items()} for row in rows]
