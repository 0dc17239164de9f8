"""What the farm itself costs, as ratios within one run (machines are noisy, ratios less so).

    python benchmarks/run.py [--results DIR]

sharing: distinct heavy steps / those the cells ask for; second run: a finished sweep once more;
evaluate: its images a second / a bare session loop's on the same images; measure: its p50 /
OpenVINO's own benchmark_app on the same engine's model, input and threads.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from farm import specs
from farm.config.loader import load_matrix
from farm.datasets.prepared import Prepared
from farm.plan import STAGES, Plan, make_plan
from farm.stages import Context, evaluate, measure
from farm.stages.engines import opened
from farm.store import Store
from farm.store.facts import facts_from

PROJECT = Path(__file__).resolve().parent.parent
MATRIX = PROJECT / "matrices" / "demo.yaml"
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=PROJECT / "results" / "benchmark")
    results = parser.parse_args().results.resolve()
    first = sweep(results)
    second = sweep(results)
    store = Store(results / "store")
    plan = make_plan(load_matrix(MATRIX), facts_from(store))
    figures = {
        **sharing(plan),
        "first_run_s": first,
        "second_run_s": second,
        **evaluate_against_bare_loop(plan, store),
        **measure_against_benchmark_app(plan, store),
    }
    for name, value in figures.items():
        print(
            f"{name:<38} {value:>10.3f}" if isinstance(value, float) else f"{name:<38} {value:>10}"
        )
    print(json.dumps(figures))


def sweep(results: Path) -> float:
    """Seconds of `farm run`; of the first one only if the results folder is new."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "farm", "run", str(MATRIX), "--results", str(results)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def sharing(plan: Plan) -> dict[str, Any]:
    asked = Counter(stage for cell in plan.cells for stage in cell.steps)
    heavy = [stage for stage in STAGES if stage != "check"]
    wanted = sum(asked[stage] for stage in heavy)
    distinct = sum(len(plan.of_stage(stage)) for stage in heavy)
    return {
        "cells": len(plan.cells),
        "heavy_steps": distinct,
        "heavy_steps_per_cell": distinct / len(plan.cells),
        "heavy_steps_over_unshared": distinct / wanted,
    }


def step_inputs(plan: Plan, stage: str, runtime: str, shape: str) -> Any:
    cell = next(
        one
        for one in plan.cells
        if (one.cell.runtime, one.cell.shape, one.cell.opset) == (runtime, shape, 17)
    )
    return plan.steps[cell.steps[stage]].inputs


def evaluate_against_bare_loop(plan: Plan, store: Store) -> dict[str, Any]:
    """Both loops over the same mapped images, one thread, by turns; medians."""
    values: specs.EvaluateInputs = step_inputs(plan, "evaluate", "onnxruntime", "fixed")
    own, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        context = Context(store, Path(folder), threads=1)
        for _ in range(ROUNDS):
            own.append(float(evaluate.run(values, context)["images_per_s"]))
            bare.append(bare_loop(values, context))
    return {
        "evaluate_images_per_s": float(np.median(own)),
        "bare_loop_images_per_s": float(np.median(bare)),
        "evaluate_over_bare_loop": float(np.median(own) / np.median(bare)),
    }


def bare_loop(values: specs.EvaluateInputs, context: Context) -> float:
    prepared = Prepared(context.artifact(values.prepared))
    images = [prepared.image(i)[None] for i in range(len(prepared))]
    with opened(values.engine, context, 1) as session:
        started = time.perf_counter()
        for image in images:
            session.run(image)
        return len(images) / (time.perf_counter() - started)


def measure_against_benchmark_app(plan: Plan, store: Store) -> dict[str, Any]:
    """By turns, on the same ONNX file, input, precision and threads; medians of p50."""
    values: specs.MeasureInputs = step_inputs(plan, "measure", "openvino", "fixed")
    build: specs.BuildInputs = step_inputs(plan, "build", "openvino", "fixed")
    onnx = store.path(build.exported) / "model.onnx"
    own, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        context = Context(store, folder, threads=1)
        prepared = Prepared(context.artifact(values.prepared))
        np.save(folder / "input.npy", measure.fitted(prepared, values.engine.options.shape.opt))
        for _ in range(3):
            figures = measure.run(values, context)
            own.append(float(figures["latency_p50_ms"]))
            theirs.append(benchmark_app(onnx, folder / "input.npy", int(figures["threads"])))
    return {
        "measure_p50_ms": float(np.median(own)),
        "benchmark_app_p50_ms": float(np.median(theirs)),
        "measure_over_benchmark_app": float(np.median(own) / np.median(theirs)),
    }


def benchmark_app(onnx: Path, image: Path, threads: int) -> float:
    """Median latency in ms that OpenVINO's benchmark_app prints."""
    program = Path(sys.executable).with_name("benchmark_app")
    command = [str(program), "-m", str(onnx), "-d", "CPU"]
    command += ["-api", "sync", "-hint", "none", "-nstreams", "1", "-nthreads", str(threads)]
    command += ["-infer_precision", "f32", "-ip", "f32", "-t", "3", "-i", str(image)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    match = re.search(r"Median:\s+([\d.]+) ms", done.stdout)
    assert match, done.stdout
    return float(match[1])


if __name__ == "__main__":
    main()
