"""What each precision costs in AP and gives in speed, on the CPU runtimes, within one run.

    python benchmarks/precision.py [--results DIR] [--rounds N] [--size N] [--only MODEL ...]
    python benchmarks/precision.py --nncf yolox_nano|resnet50 [--weights FILE] [--results DIR]

YOLOX-Nano with its weights, where COCO_MINI and CHECKPOINTS name them (int8 with `auto`), and
families of farm/models/families.yaml with random weights on noise-like images, for speed alone.
Engines of one runtime run by turns, so that what else the machine does meets all of them; `x fp32`
is the median latency of fp32 over that of the precision, on all cores. bf16 on ONNX Runtime is
emulated. With --nncf it prints a model's int8 on OpenVINO beside NNCF's, and nothing else: of
YOLOX-Nano, or of a ResNet-50 detector that was trained on synthetic images
(`python tools/train_demo.py --model resnet50 --out build`), whose AP is that of 256 others.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from farm import specs
from farm.cli.results import Results
from farm.config.loader import load_matrix
from farm.datasets import synthetic
from farm.datasets.prepared import Prepared
from farm.engine.executors import Choices
from farm.errors import InputError
from farm.models.families import chosen
from farm.stages import Context, measure
from farm.stages.engines import opened
from farm.store import Store
from farm.sweep import Sweep, run_sweep

PROJECT = Path(__file__).resolve().parent.parent
RUNTIMES = ("onnxruntime", "openvino")
BRIEF = ("measure.seconds=0.1", "measure.max_seconds=0.2", "measure.min_samples=10")

MODELS = ("yolox_nano", "retinanet", "faster_rcnn")
"""What is measured by default; the last two have a ResNet-50."""

YOLOX_NANO = PROJECT / "matrices" / "coco-mini.yaml"
OF_YOLOX = (
    "opsets=[17]", "shapes={fixed: {opt: 416x416}}", "int8=auto",
    "calibration={images: '${COCO_MINI}/calibration'}", *BRIEF,
)  # fmt: skip

CALIBRATION = 256
"""Images for int8 of the trained detector, of which three quarters are held out. With 64, the
interval of the lost AP is wider than the bound whatever the layers."""

TRAINED = """\
name: resnet50
models: {{resnet50: {{config: {config}, checkpoint: {weights}}}}}
opsets: [17]
shapes: {{fixed: {{opt: 160x160}}}}
runtimes: [openvino]
precisions: [fp32, int8]
int8: {{auto: {{max_ap_drop: 0.5}}}}
calibration: {{images: {images}/images, annotations: {images}/annotations.json, limit: {count}}}
dataset: {{type: synthetic, count: 256, seed: 7, size: 160}}
"""

MATRIX = """\
name: {name}
models: {{{name}: {{config: {config}, checkpoint: model.pth}}}}
shapes: {{fixed: {{opt: {size}x{size}}}}}
precisions: [fp32, fp16, bf16, int8]
runtimes: [onnxruntime, openvino]
int8: {{method: minmax}}
dataset: {{type: coco, images: images, annotations: annotations.json}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=PROJECT / "results" / "precision")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--size", type=int, default=800, help="of images for random weights")
    parser.add_argument("--only", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--nncf", choices=("yolox_nano", "resnet50"), help="int8 auto beside NNCF")
    parser.add_argument("--weights", type=Path, default=PROJECT / "build" / "resnet50.pth")
    options = parser.parse_args()
    results = options.results.resolve()
    require_known(options.only)
    if options.nncf:
        trained = options.weights.resolve() if options.nncf == "resnet50" else None
        if trained and not trained.is_file():
            how = "python tools/train_demo.py --model resnet50 --out DIR"
            parser.error(f"--weights: no file {trained}; `{how}` makes DIR/resnet50.pth")
        return beside_nncf(results, options.rounds, trained)
    lines = []
    for name in options.only:
        if name == "yolox_nano":
            lines += yolox(results, options.rounds)
        else:
            lines += random_family(name, results, options.rounds, options.size)
    print(f"{'model':<15} {'runtime':<12} {'':<5} {'box AP':>7} {'drop':>8} {'p50 ms':>8} x fp32")
    for one in lines:
        ap = "-" if one["box_ap"] is None else f"{one['box_ap']:.4f}"
        drop = "-" if one["box_ap_drop"] is None else f"{one['box_ap_drop']:+.4f}"
        print(
            f"{one['model']:<15} {one['runtime']:<12} {one['precision']:<5} {ap:>7} {drop:>8} "
            f"{one['p50_ms']:>8.2f} {one['over_fp32']:>6.2f}"
        )
    print(json.dumps(lines))


def require_known(names: Sequence[str]) -> None:
    """End with exit code 2 and a message where a model is no family of the farm's."""
    try:
        chosen(name for name in names if name != "yolox_nano")
    except InputError as error:
        print(f"--only: {error.message}", file=sys.stderr)
        raise SystemExit(2) from None


def beside_nncf(results: Path, rounds: int, trained: Path | None) -> None:
    """Print `int8: auto` beside NNCF, of YOLOX-Nano or of `trained` weights of resnet50.py."""
    import precision_nncf

    with tempfile.TemporaryDirectory() as folder:
        matrix = YOLOX_NANO
        words = [*OF_YOLOX, "runtimes=[openvino]", "precisions=[fp32, int8]"]
        if trained:
            config = Path(__file__).with_name("resnet50.py")
            matrix, words = Path(folder) / "resnet50.yaml", [*BRIEF]
            images = Path(folder) / "calibration"
            synthetic.draw(images, count=CALIBRATION, seed=8, size=160)
            values = {"config": config, "weights": trained, "images": images, "count": CALIBRATION}
            matrix.write_text(TRAINED.format(**values))
        sweep = swept(matrix, words, results)
    lines = precision_nncf.compare(sweep, results, rounds)
    heading = f"{'engine':<10} {'box AP':>7} {'drop':>8} {'x fp32':>7}"
    print(f"{heading} {'evaluations':>12} {'images':>7} seconds")
    for one in lines:
        counts = [f"{one.get(name, 0):.0f}" for name in ("evaluations", "images", "seconds")]
        print(
            f"{one['engine']:<10} {one['box_ap']:>7.4f} {one['box_ap_drop']:>+8.4f} "
            f"{one['over_fp32']:>7.2f} {counts[0]:>12} {counts[1]:>7} {counts[2]}"
        )
    print(json.dumps(lines))


def yolox(results: Path, rounds: int) -> list[dict[str, Any]]:
    if not {"COCO_MINI", "CHECKPOINTS"} <= os.environ.keys():
        print("YOLOX-Nano is left out: COCO_MINI and CHECKPOINTS are not set")
        return []
    words = ["runtimes=[onnxruntime, openvino]", "precisions=[fp32, fp16, bf16, int8]"]
    return timed(YOLOX_NANO, [*OF_YOLOX, *words], results, rounds)


def random_family(name: str, results: Path, rounds: int, size: int) -> list[dict[str, Any]]:
    import family_model

    with tempfile.TemporaryDirectory() as place:
        folder, family = Path(place), chosen([name])[0]
        draw(folder, family_model.load(family, folder).facts.classes, size)
        matrix = folder / f"{name}.yaml"
        matrix.write_text(MATRIX.format(name=name, config=family.config, size=size))
        return timed(matrix, BRIEF, results, rounds)


def draw(folder: Path, classes: tuple[str, ...], size: int) -> None:
    """A few images with COCO's classes and no objects: there is no AP of random weights."""
    synthetic.draw(folder, count=4, seed=7, size=min(size, 640))
    path = folder / "annotations.json"
    document = json.loads(path.read_text())
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    path.write_text(json.dumps({**document, "annotations": [], "categories": categories}))


def timed(matrix: Path, words: Any, results: Path, rounds: int) -> list[dict[str, Any]]:
    sweep = swept(matrix, words, results)
    return [line for runtime in RUNTIMES for line in by_turns(sweep, results, runtime, rounds)]


def swept(matrix: Path, words: Any, results: Path) -> Sweep:
    with contextlib.redirect_stdout(io.StringIO()):
        sweep = run_sweep(
            load_matrix(matrix, words),
            Results(results),
            Choices(executor="inline", mlflow=False),
        )
    for row in sweep.rows:
        if row["failed_stage"] not in (None, "verify"):
            raise SystemExit(f"{row['cell']}: {row['failed_stage']}: {row['reason']}")
    return sweep


def by_turns(sweep: Sweep, results: Path, runtime: str, rounds: int) -> list[dict[str, Any]]:
    """Each precision's engine once in every round, all of them open."""
    store = Store(results / "store")
    rows = [row for row in sweep.rows if row["runtime"] == runtime]
    taken: dict[str, list[float]] = {row["precision"]: [] for row in rows}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        context = Context(store, Path(folder), threads=1)
        sessions = {}
        for row in rows:
            values = sweep.plan.steps[row["measure_key"]].inputs
            assert isinstance(values, specs.MeasureInputs)
            prepared = Prepared(context.artifact(values.prepared))
            images = measure.fitted(prepared, values.engine.options.shape.opt)
            session = stack.enter_context(opened(values.engine, context, values.threads))
            session.run(images)
            sessions[row["precision"]] = (session, images)
        for _ in range(rounds):
            for precision, (session, images) in sessions.items():
                started = time.perf_counter()
                session.run(images)
                taken[precision].append(1000 * (time.perf_counter() - started))
    p50 = {precision: float(np.median(values)) for precision, values in taken.items()}
    kept = ("model", "runtime", "precision", "box_ap", "box_ap_drop", "kept_fp32", "onnx_bytes")
    return [
        {
            **{name: row[name] for name in kept},
            "p50_ms": p50[row["precision"]],
            "over_fp32": p50["fp32"] / p50[row["precision"]],
        }
        for row in rows
    ]


if __name__ == "__main__":
    main()
