"""How fast the stage `evaluate` is beside a bare loop over its engine, and AP beside pycocotools'.

    python benchmarks/evaluate.py [--results DIR] [--rounds 5]

evaluate: its images a second / those of `session.run` alone over the same images in memory, on one
thread, for a one-stage and a two-stage detector with masks on ONNX Runtime and OpenVINO. AP: the
time of pycocotools / that of hotcoco on the same generated detections, whose precision must be the
same to the last bit. All by turns; the median of the rounds' ratios. Ends with 1 where a goal is
missed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from farm import specs
from farm.config.loader import load_matrix
from farm.datasets.coco_evaluators import Rows, Truth, by_pycocotools
from farm.datasets.hotcoco_evaluation import by_hotcoco
from farm.datasets.prepared import Prepared
from farm.plan import make_plan
from farm.stages import Context, evaluate
from farm.stages.engines import opened
from farm.store import Store
from farm.store.facts import facts_from

PROJECT = Path(__file__).resolve().parent.parent
MODELS = {"onestage": "one-stage", "twostage": "two-stage with masks"}
GOAL = 0.95
GOALS_OF_AP = {"boxes": 10.0, "masks": 3.0}
MATRIX = """\
name: evaluate
models:
  onestage: {{config: {demo}/onestage.py, checkpoint: {demo}/onestage.pth}}
  twostage: {{config: {demo}/twostage.py, checkpoint: {demo}/twostage.pth}}
opsets: [17]
shapes:
  fixed: {{opt: 160x160}}
runtimes: [onnxruntime, openvino]
dataset: {{type: synthetic, count: 64, seed: 7, size: 160}}
measure: {{seconds: 0.1, warmup_seconds: 0, min_samples: 10}}
compare: false
"""


@dataclass(frozen=True)
class Ratio:
    """A ratio of two speeds, and what it should be at least. ratios: one for each round."""

    name: str
    ratios: tuple[float, ...]
    goal: float

    @property
    def value(self) -> float:
        """The median."""
        return float(np.median(self.ratios))

    def __str__(self) -> str:
        low, high = min(self.ratios), max(self.ratios)
        mark = "" if self.value >= self.goal else "  MISSED"
        return (
            f"{self.name:<50} {self.value:>8.3f}  (rounds {low:.3f} to {high:.3f};"
            f" goal {self.goal}){mark}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=PROJECT / "results" / "benchmark-evaluate")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    met = True
    for one in [*of_ap(options.rounds), *of_loops(options.results.resolve(), options.rounds)]:
        print(one, flush=True)
        met = met and one.value >= one.goal
    return 0 if met else 1


# The stage beside a bare loop -----------------------------------------------------------------


def of_loops(results: Path, rounds: int) -> Iterator[Ratio]:
    """Images a second of `evaluate` over the bare loop's, by detector and runtime."""
    results.mkdir(parents=True, exist_ok=True)
    matrix = results / "matrix.yaml"
    matrix.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    command = [sys.executable, "-m", "farm", "run", str(matrix), "--results", str(results)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    store = Store(results / "store")
    plan = make_plan(load_matrix(matrix), facts_from(store))
    with tempfile.TemporaryDirectory() as folder:
        context = Context(store, Path(folder), threads=1)
        for one in plan.cells:
            values = plan.steps[one.steps["evaluate"]].inputs
            assert isinstance(values, specs.EvaluateInputs)
            name = f"evaluate / bare loop: {MODELS[one.cell.model]}, {one.cell.runtime}"
            yield Ratio(name, tuple(loop_ratios(values, context, rounds)), GOAL)


def loop_ratios(values: specs.EvaluateInputs, context: Context, rounds: int) -> Iterator[float]:
    """The stage's images a second over the bare loop's; each is first by turns, after a warm-up."""
    for i in range(rounds + 1):
        both: list[Callable[[specs.EvaluateInputs, Context], float]] = [bare_loop, stage]
        speeds = {one: one(values, context) for one in (both if i % 2 else reversed(both))}
        if i:
            yield speeds[stage] / speeds[bare_loop]


def stage(values: specs.EvaluateInputs, context: Context) -> float:
    return float(evaluate.run(values, context)["images_per_s"])


def bare_loop(values: specs.EvaluateInputs, context: Context) -> float:
    """Images a second of the session alone, with the suppression that belongs to it."""
    prepared = Prepared(context.artifact(values.prepared))
    images = [prepared.image(i)[None] for i in range(len(prepared))]
    with opened(values.engine, context, context.threads) as session:
        started = time.perf_counter()
        for image in images:
            session.run(image)
        return len(images) / (time.perf_counter() - started)


# AP -------------------------------------------------------------------------------------------


def of_ap(rounds: int) -> Iterator[Ratio]:
    """pycocotools' time over hotcoco's."""
    truth, rows = generated()
    for kind, goal in GOALS_OF_AP.items():
        taken = Rows(
            rows.images, rows.categories, rows.scores, rows.boxes,
            rows.rles if kind == "masks" else None,
        )  # fmt: skip
        assert np.array_equal(by_pycocotools(truth, taken), by_hotcoco(truth, taken)), kind
        ratios = tuple(
            seconds(by_pycocotools, truth, taken) / seconds(by_hotcoco, truth, taken)
            for _ in range(rounds)
        )
        yield Ratio(f"AP of {kind}: time of pycocotools / of hotcoco", ratios, goal)


def seconds(evaluator: Callable[[Truth, Rows], object], truth: Truth, rows: Rows) -> float:
    started = time.perf_counter()
    evaluator(truth, rows)
    return time.perf_counter() - started


def generated(
    images: int = 300, objects: int = 7, found: int = 65, classes: int = 10
) -> tuple[Truth, Rows]:
    """Objects drawn by seed, and detections near them; rectangular masks."""
    random = np.random.default_rng(5)
    ids = np.arange(1, images + 1)
    corners = random.uniform(0, 400, (images, objects, 2))
    boxes = np.concatenate([corners, random.uniform(5, 200, corners.shape)], 2)
    labels = random.integers(1, classes + 1, (images, objects))
    near = random.integers(0, objects, (images, found))
    moved = np.take_along_axis(boxes, near[..., None], 1)
    moved = np.abs(moved * random.normal(1, 0.1, moved.shape))
    rows = Rows(
        ids.repeat(found), np.take_along_axis(labels, near, 1).ravel(),
        random.random(images * found), moved.reshape(-1, 4), texts(moved.reshape(-1, 4)),
    )  # fmt: skip
    flat, areas = boxes.reshape(-1, 4).tolist(), (boxes[..., 2] * boxes[..., 3]).ravel().tolist()
    annotations = [
        {"id": i + 1, "image_id": i // objects + 1, "category_id": label, "bbox": box, "area": area,
         "iscrowd": int(i % 33 == 0), "segmentation": rle}
        for i, (label, box, area, rle) in enumerate(
            zip(labels.ravel().tolist(), flat, areas, texts(boxes.reshape(-1, 4)), strict=True)
        )
    ]  # fmt: skip
    document = {
        "images": [{"id": i, "height": 640, "width": 640} for i in ids.tolist()],
        "annotations": annotations,
        "categories": [{"id": i, "name": str(i)} for i in range(1, classes + 1)],
    }
    return Truth(document, ids.tolist(), list(range(1, classes + 1))), rows


def texts(boxes: np.ndarray) -> list[dict[str, object]]:
    return [
        {"size": [640, 640], "counts": one["counts"].decode()}
        for one in coco_mask.frPyObjects(boxes, 640, 640)
    ]


if __name__ == "__main__":
    sys.exit(main())
