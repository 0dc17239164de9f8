"""The farm's median latency beside that of other tools, on the same engine and thread count; and
that of engines in turn beside the same engines alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from trust_checks import Check, Floats, opened, small_network

from farm.measuring.sampling import sample
from farm.ranking.rounds import Rules, run_rounds
from farm.stages.turns import Timed

PAIRS, SECONDS, MOST_OFF = 5, 3.0, 0.02
ENGINES, MOST_SLOWER = 4, 0.10


def against_tools(folder: Path) -> list[Check]:
    """Measure by turns with the farm and with each tool; the median of the pairs' ratios."""
    images = small_network(file := folder / "tools.onnx", size=96)
    tools: dict[str, tuple[str, Callable[[], float]]] = {
        "openvino": ("OpenVINO's benchmark_app", lambda: _benchmark_app(file)),
        "onnxruntime": ("a bare loop over ONNX Runtime", lambda: _bare_loop(file, images)),
    }
    found = []
    for runtime, (name, tool) in tools.items():
        pairs = [(_farm(file, runtime, images), tool()) for _ in range(PAIRS)]
        off = float(np.median([own / other for own, other in pairs])) - 1
        said = f"{off:+.1%} ({', '.join(f'{a:.2f}/{b:.2f}' for a, b in pairs)} ms)"
        found.append(Check(f"p50 beside {name}", said, "within 2 %", abs(off) <= MOST_OFF))
    return found


def in_turn(folder: Path, seconds: float) -> list[Check]:
    """Compare engines of both runtimes that have all cores, and each with itself alone before.

    Others' caches cost some; threads that go on working after a turn would cost far more.
    """
    images = small_network(file := folder / "in_turn.onnx", size=96)
    threads = len(os.sched_getaffinity(0))
    names = [name for name in ("onnxruntime", "openvino") for _ in range(ENGINES)]
    sessions = [opened(file, name, images, threads) for name in names]
    alone = [np.median(sample(one, images, 0.5, 0.5, 10)[0]) for one in sessions]
    engines = [Timed(session, images) for session in sessions]
    for engine in engines:
        engine.warm_up()
    run_rounds(engines, Rules(max_seconds=seconds * len(engines), seed=0))
    ratios = [np.median(one.samples) / own for one, own in zip(engines, alone, strict=True)]
    found = {name: np.median([r for r, own in zip(ratios, names, strict=True) if own == name])
             for name in dict.fromkeys(names)}  # fmt: skip
    for session in sessions:
        session.close()
    said = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found.items())
    name = f"p50 among {len(names)} engines in turn / alone, {threads} threads"
    goal = f"<= {1 + MOST_SLOWER:.2f}"
    return [Check(name, said, goal, max(found.values()) <= 1 + MOST_SLOWER)]


def _farm(file: Path, runtime: str, images: Floats) -> float:
    session = opened(file, runtime, images)
    sample(session, images, 0.2, 0.2, 3)
    samples, _ = sample(session, images, SECONDS, SECONDS, 10)
    session.close()
    return float(np.median(samples))


def _bare_loop(file: Path, images: Floats) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    for _ in range(3):
        session.run(None, {"images": images})
    taken, until = [], time.perf_counter() + SECONDS
    while (before := time.perf_counter()) < until:
        session.run(None, {"images": images})
        taken.append(time.perf_counter() - before)
    return float(np.median(taken)) * 1e3


def _benchmark_app(file: Path) -> float:
    """The median latency that benchmark_app prints, in ms.

    Raises:
        RuntimeError: it prints none.
    """
    program = Path(sys.executable).with_name("benchmark_app")
    options = ["-t", str(int(SECONDS)), "-hint", "none", "-api", "sync", "-infer_precision", "f32"]
    options += ["-nireq", "1", "-nstreams", "1", "-nthreads", "1"]
    command = [str(program), "-m", str(file), *options]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    if (median := re.search(r"Median:\s+([\d.]+) ms", out.stdout)) is None:
        raise RuntimeError(
            f"benchmark_app printed no median: {out.stdout[-500:]}{out.stderr[-500:]}"
        )
    return float(median[1])
