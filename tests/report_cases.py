"""Rows of many cells, and a store in which `verify` has kept boxes, for the tests of the report."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from rows import row

from farm.datasets.prepared import PreparedWriter
from farm.detections import Detections, ImageMeta, files
from farm.detections.matching import match
from farm.specs import Ref
from farm.store import Record, Store

IMAGE = (80, 100)
"""Height and width of the prepared images."""

KEYS = {stage: str(number) * 64 for number, stage in enumerate(("prepare", "reference", "verify"))}
PIPELINE = json.dumps({
    "decode": {"color_type": "color", "channel_order": "bgr", "to_float32": False},
    "steps": [
        {"normalize": {"mean": [100.0, 110.0, 120.0], "std": [50.0, 50.0, 50.0], "to_rgb": True}}
    ],
})  # fmt: skip


def boxes(*scored: tuple[float, float]) -> Detections:
    """Boxes of 20 x 20 pixels: where each begins, in x and y, and its score."""
    places = np.array([[at, at, at + 20, at + 20] for at, _ in scored], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in scored], np.float32)
    return Detections(places, scores, np.zeros(len(scored), np.int64))


def masked(found: Detections, *parts: tuple[float, float]) -> Detections:
    """The same boxes with masks that fill them from one part of their height to another."""
    rles = []
    for (x1, y1, x2, y2), (first, last) in zip(found.boxes.tolist(), parts, strict=True):
        mask = np.zeros(IMAGE, np.uint8, order="F")
        height = y2 - y1
        mask[round(y1 + height * first) : round(y1 + height * last), round(x1) : round(x2)] = 1
        encoded = coco_mask.encode(mask)
        rles.append({"size": [*IMAGE], "counts": encoded["counts"].decode("ascii")})
    return replace(found, rles=tuple(rles))


PYTORCH = [boxes((5, 0.9), (40, 0.8)), boxes((10, 0.7)), boxes((10, 0.95))]
ENGINE = [boxes((5, 0.9)), boxes((10, 0.6), (50, 0.5)), boxes((10, 0.95))]
"""Image 0: a box is lost. Image 1: a score is 0.1 lower, and a box is added. Image 2: equal."""


def publish(store: Store, stage: str, leave: Any, inputs: dict[str, Any] | None = None) -> None:
    folder = store.work_folder(KEYS[stage])
    leave(folder)
    record = Record(stage, KEYS[stage], stage, {}, inputs or {}, {}, 1.0, 1, {"host": "h"})
    store.publish(folder, record)


def leave_images(folder: Path) -> None:
    with PreparedWriter(folder) as writer:
        for number in range(len(PYTORCH)):
            # Red in RGB order, as the pipeline normalises it.
            image = np.zeros((3, *IMAGE), np.float32)
            image[:] = np.float32([(250 - 100) / 50, -110 / 50, -120 / 50])[:, None, None]
            meta = ImageMeta(number, f"image{number}.jpg", 80, 100, 80, 100, 80, 100, 1.0, 1.0)
            writer.add(image, meta)


MASKED = (
    [masked(PYTORCH[0], (0, 1), (0, 1)), masked(PYTORCH[1], (0, 1)), masked(PYTORCH[2], (0, 1))],
    [masked(PYTORCH[0], (0, 0.5), (0, 1)), masked(PYTORCH[1], (0, 1)), masked(PYTORCH[2], (0, 1))],
)
"""PyTorch's and an engine's: of image 0 the first mask is half as large, all else is equal."""


def verified_store(
    folder: Path,
    pytorch: list[Detections] = PYTORCH,
    engine: list[Detections] = ENGINE,
    kept: list[Detections] | None = None,
) -> Store:
    """A store with the prepared images, PyTorch's boxes and those of one engine. kept: what is
    kept of the engine's, by default all."""
    store = Store(folder)
    publish(store, "prepare", leave_images, {"pipeline": PIPELINE})
    publish(store, "reference", lambda folder: files.save(folder / "graph.npz", pytorch))

    def leave_boxes(folder: Path) -> None:
        files.save(folder / "detections.npz", kept or engine)
        np.savez(folder / "pairs.npz", **asdict(match(pytorch, engine)))

    publish(store, "verify", leave_boxes)
    return store


def verified_row(cell: str = "one", **values: Any) -> dict[str, Any]:
    keys = {f"{stage}_key": key for stage, key in KEYS.items()}
    return row(cell, **keys, matched_fraction=0.5, max_score_diff=0.1, **values)


def remove(store: Store, stage: str) -> None:
    store.remove(Ref(stage, KEYS[stage]))


def many(count: int) -> list[dict[str, Any]]:
    """Cells of several models, runtimes and precisions, with ranks, intervals and failures."""
    rng, rows = np.random.default_rng(7), []
    precisions = {"fp32": 1.0, "fp16": 0.8, "int8": 0.5}
    for index in range(count):
        model, runtime = index % 10, ("torch", "onnxruntime", "openvino", "tensorrt")[index % 4]
        precision = [*precisions][index // 4 % 3]
        latency = float((3 + 4 * model) * precisions[precision] * rng.uniform(0.8, 2.5))
        ap = float(0.25 + 0.025 * model - 0.02 * (precision == "int8") + rng.normal(0, 0.002))
        rows.append(row(
            f"model{model}.op{11 + index % 10}.fixed.{precision}.{runtime}.{index}.cpu",
            model=f"model{model}", runtime=runtime, precision=precision, opset=11 + index % 10,
            box_ap=ap, box_ap_reference=0.25 + 0.025 * model, latency_p50_ms=latency,
            box_ap_drop=0.25 + 0.025 * model - ap, box_ap_drop_low=-0.01, box_ap_drop_high=0.02,
            rank=index % 7 + 1 if index % 5 == 0 else None, compare_key=f"{model:064}",
            vs_best=1.5, vs_best_low=1.4, vs_best_high=1.62, samples=200,
            toolchain="numpy 2.4; onnxruntime 1.31; torch 2.13", runtime_version="1.31",
            latency_p90_ms=latency * 1.1, measured_at=f"2026-11-{index % 28 + 1:02}T10:00:00Z",
        ))  # fmt: skip
        if index % 50 == 49:
            failed = {"status": "failed", "failed_stage": "build", "reason": f"no kernel {index}"}
            nothing = dict.fromkeys(("box_ap", "box_ap_drop", "latency_p50_ms", "rank"))
            rows[-1] |= {**failed, **nothing}
    return rows
