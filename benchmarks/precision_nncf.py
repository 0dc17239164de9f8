"""`int8: auto` beside NNCF's quantisation with accuracy control, on OpenVINO.

Both get the same ONNX file, images for scales, held-out images to judge by, figure and bound. NNCF
runs in an environment of its own, which is made on the first call. AP is that on images which
neither has seen; the three engines are timed by turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import openvino as ov

from farm import environments, specs
from farm.datasets import coco
from farm.datasets.prepared import Prepared
from farm.environments import locking
from farm.runtimes.openvino.adapter import OpenVinoSession
from farm.stages import Context, measure
from farm.stages.engines import opened
from farm.stages.inference import Decoding, detect, prepared_batches
from farm.store import Store
from farm.sweep import Sweep

QUANTISER = Path(__file__).with_name("nncf_quantiser.py")


def compare(sweep: Sweep, results: Path, rounds: int) -> list[dict[str, Any]]:
    """Return a line each for fp32, `int8: auto` and NNCF; rows of OpenVINO must be in the sweep."""
    store = Store(results / "store")
    rows = {row["precision"]: row for row in sweep.rows if row["runtime"] == "openvino"}
    convert = sweep.plan.steps[rows["int8"]["convert_key"]].inputs
    assert isinstance(convert, specs.ConvertInputs) and convert.int8 and convert.int8.auto
    auto = convert.int8.auto
    with TemporaryDirectory() as folder, ExitStack() as stack:
        context = Context(store, Path(folder), threads=1)
        counts = quantised_by_nncf(
            {
                "onnx": str(context.artifact(convert.exported) / "model.onnx"),
                "prepared": str(context.artifact(convert.int8.calibration)),
                "auto": asdict(auto),
                "out": str(Path(folder) / "nncf.xml"),
            },
            Path(folder),
        )
        values = sweep.plan.steps[rows["fp32"]["measure_key"]].inputs
        assert isinstance(values, specs.MeasureInputs)
        prepared = Prepared(context.artifact(values.prepared))
        images = measure.fitted(prepared, values.engine.options.shape.opt)
        sessions: dict[str, Any] = {}
        for name, row in (("fp32", rows["fp32"]), ("int8 auto", rows["int8"])):
            step = sweep.plan.steps[row["measure_key"]].inputs
            assert isinstance(step, specs.MeasureInputs)
            sessions[name] = stack.enter_context(opened(step.engine, context, values.threads))
        sessions["NNCF"] = OpenVinoSession(
            ov.Core().compile_model(
                str(Path(folder) / "nncf.xml"), "CPU",
                {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY",
                 "INFERENCE_NUM_THREADS": values.threads, "NUM_STREAMS": 1},
            )
        )  # fmt: skip
        ap = {name: precision(one, prepared, auto) for name, one in sessions.items()}
        taken = by_turns(sessions, images, rounds)
    record = store.record(specs.Ref("convert", rows["int8"]["convert_key"]))
    assert record is not None
    used = {"int8 auto": own_counts(record.figures, record.seconds, auto), "NNCF": counts}
    over = {name: float(np.median(taken["fp32"] / times)) for name, times in taken.items()}
    return [
        {"engine": name, "box_ap": ap[name], "box_ap_drop": ap["fp32"] - ap[name],
         "over_fp32": over[name], **used.get(name, {})}
        for name in sessions
    ]  # fmt: skip


def quantised_by_nncf(task: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Let NNCF quantise in its own environment, and return its counts."""
    needed = ("nncf==3.*", f"openvino=={'.'.join(version('openvino').split('.')[:3])}")
    wanted = specs.Environment(
        "NNCF", locking.with_needed(needed, ()), python=locking.python_version()
    )
    known = environments.make(wanted, ("nncf", "openvino"))
    if known.failed:
        raise SystemExit(known.failed)
    code = f"import runpy; runpy.run_path({str(QUANTISER)!r}, run_name='__main__')"
    subprocess.run(
        environments.command(known.environment, code), input=json.dumps(task), text=True,
        check=True, stdout=subprocess.DEVNULL, cwd=folder, env=environments.variables(os.environ),
    )  # fmt: skip
    counts: dict[str, Any] = json.loads(Path(task["out"]).with_suffix(".json").read_text())
    return counts


def own_counts(figures: Mapping[str, Any], seconds: float, auto: specs.Auto) -> dict[str, Any]:
    """Count as NNCF's are: fp32 over the held-out images is one, layers are ranked on few."""
    evaluations = figures["auto_evaluations"] + 1
    ranked = (figures["layers"] + 1) * auto.images if figures["auto_evaluations"] > 1 else 0
    images = evaluations * figures["auto_images"] + ranked
    return {"evaluations": evaluations, "images": images, "seconds": seconds}


def precision(session: Any, prepared: Prepared, auto: specs.Auto) -> float:
    """Return the box AP on the evaluation images."""
    decoding = Decoding(len(auto.classes), auto.clip)
    found = list(detect(session, prepared_batches(prepared, 1), decoding))
    figures = coco.average_precision(
        prepared.annotations, found, prepared.metas, auto.classes, False
    )
    ap: float = figures["box_ap"]
    return ap


def by_turns(sessions: Mapping[str, Any], images: Any, rounds: int) -> dict[str, Any]:
    """Return the milliseconds of each engine [rounds], each once in every round."""
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            started = time.perf_counter()
            session.run(images)
            taken[name].append(1000 * (time.perf_counter() - started))
    return {name: np.array(times) for name, times in taken.items()}
