"""The columns of a leaderboard file: their types, what they may hold, and how a file is read that
an earlier version, another program or nobody of ours has written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from farm.errors import InputError
from farm.store.elsewhere import HERE
from farm.store.figures import AP_NAMES, count, fraction, positive, require, size

Row = dict[str, Any]

SCHEMA_VERSION = "4"

PARTITIONS = ("target", "sweep")
"""In the path and not in the file."""

LATER: Row = {
    "postprocess": "graph",
    **dict.fromkeys(("max_abs_diff", "max_rel_diff", "cosine")),
    "fallback": None,
    **dict.fromkeys(("device_p50_ms", "cuda_graph")),
    **dict.fromkeys(("convert_key", "convert_s", "kept_fp32", "speedup_vs_fp32")),
    "origin": HERE,
    **dict.fromkeys(("box_ap_by_class", "mask_ap_by_class")),
}
"""Columns that files of earlier versions lack, and what they would say."""

_INTEGERS = {
    "opset", "workspace_bytes", "samples", "threads", "batch", "onnx_bytes", "kept_fp32",
    "engine_bytes", "peak_host_bytes",
}  # fmt: skip
_TEXTS = {
    "cell", "sweep", "model", "shape", "postprocess", "precision", "runtime", "target", "status",
    "failed_stage", "reason", "input_shape", "device", "fallback", "runtime_version", "toolchain",
    "origin", "box_ap_by_class", "mask_ap_by_class",
}  # fmt: skip
_FLAGS = {"stable", "cuda_graph"}

NEEDED = (
    "cell", "model", "opset", "shape", "precision", "runtime", "workspace_bytes", "status",
    "failed_stage", "reason", "box_ap", "box_ap_reference", "box_ap_drop", "mask_ap",
    "mask_ap_reference", "mask_ap_drop", "matched_fraction", "max_score_diff", "latency_p50_ms",
    "latency_p90_ms", "latency_cov", "samples", "throughput_per_s", "stable", "threads", "device",
    "export_key", "build_key",
)  # fmt: skip
"""Every version's, which tables and picks are made of."""

_NEVER_NULL = ("cell", "model", "shape", "precision", "runtime", "status", "origin")
_STATES = ("ok", "failed", "pending")
_KINDS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(AP_NAMES, fraction),
    **dict.fromkeys(("box_ap_reference", "mask_ap_reference", "matched_fraction"), fraction),
    **dict.fromkeys(("latency_p50_ms", "throughput_per_s", "speedup_vs_fp32"), positive),
    **dict.fromkeys(("latency_p90_ms", "latency_cov"), size),
    **dict.fromkeys(_INTEGERS, count),
}


def type_of(name: str) -> pa.DataType:
    if name in _INTEGERS:
        return pa.int64()
    if name in _TEXTS or name.endswith("_key"):
        return pa.string()
    return pa.bool_() if name in _FLAGS else pa.float64()


def rows_of(table: pa.Table) -> list[Row]:
    """Raises InputError for a column that is missing, of another type, or holds what it cannot."""
    if missing := [name for name in NEEDED if name not in table.column_names]:
        raise InputError(f"it has no column {missing[0]!r}")
    columns = {
        name: _values(name, table.column(name))
        for name in dict.fromkeys(table.column_names)
        if name not in PARTITIONS
    }
    for name, value in LATER.items():
        columns.setdefault(name, [value] * table.num_rows)
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    for number, row in enumerate(rows, start=1):
        try:
            _check(row)
        except InputError as error:
            raise InputError(f"row {number}: {error}") from None
    return rows


def _values(name: str, column: pa.ChunkedArray) -> list[Any]:
    """The column as its type; a number that is not finite says nothing."""
    found, wanted = column.type, type_of(name)
    fits = {
        # pandas writes whole numbers as floating-point ones where one is missing
        pa.int64(): lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind),
        pa.float64(): lambda kind: pa.types.is_floating(kind) or pa.types.is_integer(kind),
        pa.string(): lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
        pa.bool_(): pa.types.is_boolean,
    }[wanted]
    if pa.types.is_dictionary(found):  # as pandas writes categories
        found = found.value_type
    if not fits(found) and not pa.types.is_null(found):
        raise InputError(f"column {name!r} is of type {found}, expected {wanted}")
    column = column.cast(found)
    if pa.types.is_floating(found):
        column = pc.if_else(pc.is_finite(column), column, None)
    values: list[Any] = column.cast(wanted).to_pylist()
    return values


def _check(row: Row) -> None:
    """Raises InputError for a value that no row of ours has."""
    if empty := [name for name in _NEVER_NULL if row[name] is None]:
        raise InputError(f"{empty[0]!r} is empty")
    if row["status"] not in _STATES:
        raise InputError(f"status {row['status']!r}, expected one of: {', '.join(_STATES)}")
    for name, value in row.items():
        if name in _KINDS:
            require(name, value, _KINDS[name])
        elif name.endswith("_key") and value and not re.fullmatch("[0-9a-f]{64}", value):
            raise InputError(f"{name!r} is {value!r}, which is no key of 64 hex digits")
    row["reason"] = row["reason"] or ("" if row["status"] != "ok" else None)
    if row["status"] == "ok" and row["latency_p50_ms"] and not row["throughput_per_s"]:
        raise InputError("it has a latency and no throughput")
