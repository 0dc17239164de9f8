"""How far the interval of a drop of AP can be trusted, and AP itself, on real images.

    COCO_MINI=... CHECKPOINTS=... python benchmarks/trust_ap.py [--results DIR] [--trials 100]

AP: of YOLOX-Nano's engines in lower precisions, by pycocotools over the engine's boxes, against the
record's and against that of the kept matches.

Coverage: the images of the data set stand for all there are, so the true drop is that over all of
them. A trial draws a data set from them, with replacement, and asks whether its interval has the
true drop. So every trial is a sample of the same population, however large it is; a subset without
replacement would say more of the population the larger it is, which the interval cannot know. Ends
with 1 where the intervals of all trials together hold less often than the goal, or AP differs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from farm import specs
from farm.cli.results import Results
from farm.config.loader import load_matrix
from farm.datasets import coco_evaluators, matches
from farm.datasets.coco import Evaluation
from farm.datasets.coco_evaluators import by_pycocotools
from farm.datasets.matches import Matches, average_precision
from farm.datasets.prepared import Prepared
from farm.datasets.resampling import drop_interval, drop_samples
from farm.engine.executors import Choices
from farm.stages import Context
from farm.stages.engines import opened
from farm.stages.inference import Decoding, detect_all, prepared_batches
from farm.store import Store
from farm.sweep import Sweep, run_sweep

PROJECT = Path(__file__).resolve().parent.parent
GOAL = 0.93
SAME = 1e-12
WORDS = (
    "opsets=[17]", "shapes={fixed: {opt: 416x416}}", "runtimes=[onnxruntime, openvino]",
    "precisions=[fp16, bf16, int8]", "calibration={images: '${COCO_MINI}/calibration'}",
    "measure={seconds: 0.1, warmup_seconds: 0, min_samples: 10, throughput: false}",
    "compare=false",
)  # fmt: skip


@dataclass(frozen=True)
class Engine:
    """An engine with its matches, and with PyTorch's on the same images. ap: the record's."""

    name: str
    inputs: specs.EvaluateInputs
    ap: float
    reference: Matches
    own: Matches


@dataclass(frozen=True)
class Coverage:
    """How often intervals held the true drop. images: of each drawn data set. width: the mean."""

    images: int
    drop: float
    trials: int
    held: int
    width: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=PROJECT / "results" / "benchmark-trust-ap")
    parser.add_argument("--trials", type=int, default=100, help="of each engine and size (100)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[66, 33], metavar="IMAGES")
    options = parser.parse_args()
    if not {"COCO_MINI", "CHECKPOINTS"} <= os.environ.keys():
        raise SystemExit("set COCO_MINI and CHECKPOINTS: matrices/coco-mini.yaml says to what")
    results = options.results.resolve()
    found = list(engines(results))
    same = print_ap(found, Store(results / "store"))
    return 0 if print_coverage(found, options.sizes, options.trials) and same else 1


def engines(results: Path) -> Iterator[Engine]:
    """Run the sweep, and yield its engines."""
    with contextlib.redirect_stdout(io.StringIO()):
        sweep = run_sweep(
            load_matrix(PROJECT / "matrices" / "coco-mini.yaml", WORDS),
            Results(results),
            Choices(executor="inline", mlflow=False),
        )
    store = Store(results / "store")
    for row in sweep.rows:
        if row["failed_stage"] not in (None, "verify"):  # an engine that is wrong has a drop, too
            raise SystemExit(f"{row['cell']}: {row['failed_stage']}: {row['reason']}")
        yield _engine(sweep, store, row["evaluate_key"], row["box_ap"], row["cell"])


def _engine(sweep: Sweep, store: Store, key: str, ap: float, cell: str) -> Engine:
    values = sweep.plan.steps[key].inputs
    assert isinstance(values, specs.EvaluateInputs)
    sides = [
        matches.load(store.path(ref) / "matches.npz")["box"]
        for ref in (values.reference, specs.Ref("evaluate", key))
    ]
    precision, runtime = cell.split(".")[-3:-1]
    return Engine(f"{precision} {runtime}", values, ap, *sides)


# AP -------------------------------------------------------------------------------------------


def print_ap(found: Sequence[Engine], store: Store) -> bool:
    """Print AP by pycocotools beside the two others; return whether they are the same."""
    print(f"{'AP':<20} {'pycocotools':>12} {'record less':>12} {'matches less':>13}")
    met = True
    for one in found:
        expected = pycocotools_ap(one.inputs, store)
        (kept,) = average_precision(one.own, np.ones((one.own.images, 1)))
        differences = one.ap - expected, kept - expected
        same = max(map(abs, differences)) <= SAME
        print(f"{one.name:<20} {expected:>12.9f}", *(f"{x:>12.1e}" for x in differences), end="")
        print("" if same else "  MISSED", flush=True)
        met = met and same
    return met


def pycocotools_ap(inputs: specs.EvaluateInputs, store: Store) -> float:
    """Run the engine once more, and take the AP of its boxes by pycocotools."""
    with tempfile.TemporaryDirectory() as folder:
        context = Context(store, Path(folder), threads=1)
        prepared = Prepared(context.artifact(inputs.prepared))
        decoding = Decoding(len(inputs.classes), inputs.clip)
        with opened(inputs.engine, context, 1) as session:
            found = detect_all(session, prepared_batches(prepared, 1), decoding, 1)
    usual, coco_evaluators.evaluator = coco_evaluators.evaluator, lambda rows: by_pycocotools
    try:
        figures = Evaluation(
            prepared.annotations, found, prepared.metas, inputs.classes, masks=False
        ).figures()
    finally:
        coco_evaluators.evaluator = usual
    return float(figures["box_ap"])


# Coverage -------------------------------------------------------------------------------------


def print_coverage(found: Sequence[Engine], sizes: Sequence[int], trials: int) -> bool:
    """Print how often the intervals held; return whether all together did as often as the goal."""
    print(f"\n{'95 % interval of':<20} {'images':>7} {'true drop':>10} {'width':>7} {'holds':>7}")
    rows = []
    for one in found:
        for images in sizes:
            rows.append(coverage(one.reference, one.own, images, trials))
            row = rows[-1]
            part = f"{row.held / row.trials:>6.1%}"
            print(
                f"{one.name:<20} {images:>7} {row.drop:>+10.4f} {row.width:>7.4f} {part}",
                flush=True,
            )
    share = sum(row.held for row in rows) / sum(row.trials for row in rows)
    mark = "" if share >= GOAL else "  MISSED"
    print(f"{'all':<20} {'':>26} {share:>6.1%}  (goal {GOAL:.0%}){mark}")
    return share >= GOAL


def coverage(reference: Matches, own: Matches, images: int, trials: int, seed: int = 1) -> Coverage:
    """Draw data sets of so many images, and count how many intervals have the true drop in them."""
    random = np.random.default_rng(seed)
    (true,) = drop_samples(reference, own, np.ones((reference.images, 1)))
    held, widths = 0, []
    for _ in range(trials):
        places = random.integers(0, reference.images, images)
        interval = drop_interval(reference.drawn(places), own.drawn(places))
        held += interval is not None and interval.low <= true <= interval.high
        widths.append(interval.high - interval.low if interval else np.nan)
    return Coverage(images, float(true), trials, held, float(np.nanmean(widths)))


if __name__ == "__main__":
    sys.exit(main())
