"""Rows of the leaderboard as a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from farm.results.columns import COLUMNS, Row
from farm.results.leaderboard.arrow import type_of
from farm.results.names import outer

if TYPE_CHECKING:
    from pyarrow import DataType

_TYPES = {"string": "string", "int64": "Int64", "bool": "boolean"}


def frame_of(rows: Sequence[Row], columns: Sequence[str] = ()) -> pd.DataFrame:
    """Return a row for each cell. columns: those that are wanted; () for all.

    Columns of AP have the names of the files, `bbox_mAP`.
    Texts, counts and flags have pandas' types with NA; other numbers are float64.
    """
    names = columns or tuple(COLUMNS)
    values = {name: [row.get(name) for row in rows] for name in names}
    return pd.DataFrame(
        {outer(name): pd.Series(own, dtype=_dtype(name)) for name, own in values.items()}
    )


def _dtype(name: str) -> str:
    kind: DataType = type_of(name)
    return _TYPES.get(str(kind), "float64")
