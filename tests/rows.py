"""A row of the leaderboard, for the tests of tables, of the pick and of the commands."""

from __future__ import annotations

from typing import Any


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
