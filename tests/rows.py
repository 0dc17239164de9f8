"""Rows of the leaderboard, for the tests of tables, of the pick, of the commands and of sweeps."""

from __future__ import annotations

from typing import Any

from farm.results.columns import COLUMNS
from farm.results.names import inner

_MEASURING = ("measure", "compare")
"""The stages whose figures differ from one run to the next."""

_SETTINGS = frozenset({"threads", "batch", "input_shape", "latency_includes"})
"""Their columns that do not."""

_TIMINGS = frozenset({"evaluate_images_per_s", "export_s", "convert_s", "build_s", "compare_key"})
"""Columns of other stages that do; what is compared depends on what was measured."""


def is_measured(column: str) -> bool:
    """Return whether the values of a column differ from one run of a sweep to the next."""
    measured = COLUMNS[inner(column)].source.startswith(_MEASURING) and column not in _SETTINGS
    return measured or column in _TIMINGS


def row(cell: str, **values: Any) -> dict[str, Any]:
    names = (
        "cell sweep model opset shape postprocess precision runtime workspace_bytes target "
        "status failed_stage reason box_ap box_ap_reference box_ap_drop mask_ap "
        "mask_ap_reference mask_ap_drop latency_p50_ms latency_p90_ms latency_cov samples "
        "throughput_per_s threads stable device cosine export_key convert_key build_key "
        "speedup_vs_fp32 matched_fraction max_score_diff max_rel_diff"
    )
    base: dict[str, Any] = dict.fromkeys(names.split())
    base |= {"cell": cell, "sweep": "s", "model": "m", "target": "cpu", "status": "ok"}
    base |= {"runtime": "onnxruntime", "shape": "fixed", "precision": "fp32"}
    base |= {"postprocess": "graph", "origin": "here"}
    base |= {"box_ap": 0.5, "box_ap_reference": 0.5, "box_ap_drop": 0.0, "device": "a cpu"}
    base |= {"latency_p50_ms": 10.0, "throughput_per_s": 100.0, "threads": 2, "stable": True}
    return base | values
