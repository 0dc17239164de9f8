"""The leaderboard: Parquet files that pandas and DuckDB read as one table.

    <results>/leaderboard/target=<target>/sweep=<sweep>/leaderboard.parquet

`target` and `sweep` are in the path and not in the file, as Hive's partitions are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from farm.errors import InputError, nearest
from farm.results.rows import Row

SCHEMA_VERSION = "3"

_LATER: Row = {
    "postprocess": "graph",
    **dict.fromkeys(("max_abs_diff", "max_rel_diff", "cosine")),
    "fallback": None,
    **dict.fromkeys(("device_p50_ms", "cuda_graph")),
    **dict.fromkeys(("convert_key", "convert_s", "kept_fp32", "speedup_vs_fp32")),
}
"""Columns that files of earlier versions lack, and what they would say."""

_INTEGERS = {
    "opset",
    "workspace_bytes",
    "samples",
    "threads",
    "batch",
    "onnx_bytes",
    "kept_fp32",
    "engine_bytes",
    "peak_host_bytes",
}
_TEXTS = {
    "cell",
    "sweep",
    "model",
    "shape",
    "postprocess",
    "precision",
    "runtime",
    "target",
    "status",
    "failed_stage",
    "reason",
    "input_shape",
    "device",
    "fallback",
    "runtime_version",
    "toolchain",
}
_PARTITIONS = ("target", "sweep")


def _type(name: str) -> pa.DataType:
    if name in _INTEGERS:
        return pa.int64()
    if name in _TEXTS or name.endswith("_key"):
        return pa.string()
    return pa.bool_() if name in ("stable", "cuda_graph") else pa.float64()


def write(rows: Sequence[Row], folder: Path, sweep: str, whole: bool = True) -> list[Path]:
    """Replace the sweep's files under `folder`; each by temporary file and rename.

    whole: the rows are all of the sweep's; else its other targets stay as they are.
    """
    root = folder / "leaderboard"
    written = []
    for target in sorted({row["target"] for row in rows}):
        own = [row for row in rows if row["target"] == target]
        place = root / f"target={target}" / f"sweep={sweep}" / "leaderboard.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{os.getpid()}.part")
        pq.write_table(_table(own), part)
        part.replace(place)
        written.append(place)
    for old in root.glob(f"target=*/sweep={sweep}") if whole else ():
        if old / "leaderboard.parquet" not in written:
            shutil.rmtree(old)  # a target that the matrix no longer names
    return written


def _table(rows: Sequence[Row]) -> pa.Table:
    names = [name for name in rows[0] if name not in _PARTITIONS]
    fields = [pa.field(name, _type(name)) for name in names]
    schema = pa.schema(fields, metadata={"schema_version": SCHEMA_VERSION})
    return pa.Table.from_pylist([{name: row[name] for name in names} for row in rows], schema)


def read(folder: Path, target: str | None = None, sweep: str | None = None) -> list[Row]:
    """Rows of all sweeps, or of one target or sweep. Raises InputError if there is none."""
    root = folder / "leaderboard"
    found = sorted(root.glob("target=*/sweep=*/*.parquet"))
    if not found:
        raise InputError("no leaderboard here; `farm run MATRIX` makes one", str(folder))
    rows = [row for path in found for row in _read_file(path)]
    for name, wanted in (("target", target), ("sweep", sweep)):
        known = {str(row[name]) for row in rows}
        if wanted is not None and wanted not in known:
            raise InputError(f"no {name} {wanted!r}{nearest(wanted, known)}", str(root))
        rows = [row for row in rows if wanted in (None, row[name])]
    return rows


def _read_file(path: Path) -> list[Row]:
    parts = dict(part.split("=", 1) for part in path.parts if "=" in part)
    identity = {name: parts[name] for name in _PARTITIONS}
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, partitioning=None).to_pylist()
        later = {name: value for name, value in _LATER.items() if rows and name not in rows[0]}
        return [{"cell": row["cell"], **identity, **row, **later} for row in rows]
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = f"not a leaderboard that can be read ({type(error).__name__})"
        raise InputError(f"{reason}; remove it and run its sweep again", str(path)) from None
