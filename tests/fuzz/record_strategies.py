"""What a store has of a step: right, of another version, or anything at all."""

from __future__ import annotations

import json
from typing import Any

from bounds import JUNK, TEXT
from hypothesis import strategies as st

FIGURES = [
    *(
        "box_ap",
        "mask_ap",
        "box_ap50",
        "latency_p50_ms",
        "latency_p90_ms",
        "latency_cov",
        "samples",
    ),
    *("throughput_per_s", "stable", "threads", "batch", "input_shape", "opset"),
    *("images", "pairs", "classes", "masks", "pipeline", "refused", "suppression", "clips_boxes"),
    *("fallback", "samples", "cuda_graph", "max_abs_diff", "cosine", "files", "seconds", "nodes"),
]
NUMBERS = st.integers(0, 100) | st.floats(0, 1) | st.none() | st.booleans()
figures = st.dictionaries(st.sampled_from(FIGURES) | TEXT, NUMBERS | JUNK, max_size=6)


def right_record(stage: str, key: str, values: dict[str, Any]) -> dict[str, Any]:
    return {
        "stage": stage,
        "key": key,
        "label": "a",
        "figures": values,
        "inputs": {},
        "toolchain": {"torch": "2.13"},
        "seconds": 1.0,
        "peak_host_bytes": 1,
        "node": {"host": "a", "device": "cpu"},
        "files": {},
        "left_out": {},
        "digests": {},
        "parents": {},
    }


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of a record to be replaced; None for one that is taken away."""
    names = st.sampled_from(sorted(right_record("", "", {}))) | TEXT
    return draw(st.dictionaries(names, JUNK, max_size=3))


def as_bytes(values: Any, cut: int | None) -> bytes:
    return json.dumps(values).encode()[:cut]
