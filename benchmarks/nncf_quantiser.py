"""NNCF's quantisation with accuracy control, by the farm's own judge: run in NNCF's environment.

Reads from stdin, as JSON, what `precision.py` writes; leaves OpenVINO's IR, and prints the counts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nncf
import openvino as ov

from farm import specs
from farm.datasets import coco
from farm.datasets.prepared import Prepared
from farm.detections import Detections
from farm.runtimes.openvino.adapter import OpenVinoSession
from farm.stages.convert.held_out import HeldOut, split
from farm.stages.inference import Decoding, detect

_F32 = {"INFERENCE_PRECISION_HINT": "f32"}


class Validation:
    """AP over some of the held-out images, and how often it was asked for.

    full: over all of them; images: that were run.
    """

    def __init__(self, prepared: Prepared, how: specs.Auto, fp32: ov.CompiledModel) -> None:
        self.full, self.images = 0, 0
        self._prepared, self._classes = prepared, how.classes
        self._decoding = Decoding(len(how.classes), how.clip)
        found = self._detected(fp32, range(len(prepared)))
        self._judge = HeldOut(found, prepared.metas, prepared.annotations, how, Path.cwd())

    def __call__(self, engine: ov.CompiledModel, items: Iterable[int]) -> tuple[float, None]:
        chosen = list(items)
        self.images += len(chosen)
        self.full += len(chosen) == len(self._prepared)
        found, metas = self._detected(engine, chosen), [self._prepared.metas[i] for i in chosen]
        figures = coco.average_precision(self._judge.truth, found, metas, self._classes, False)
        ap = figures[self._judge.metric]
        return 1.0 if ap is None else ap, None  # none where an image has no objects

    def _detected(self, engine: ov.CompiledModel, chosen: Sequence[int]) -> list[Detections]:
        images, metas = self._prepared, self._prepared.metas
        batches = ((images.image(i)[None], [metas[i]]) for i in chosen)
        return list(detect(OpenVinoSession(engine), batches, self._decoding))


def main() -> None:
    task = json.loads(sys.stdin.read())
    how = specs.Auto(**task["auto"])
    prepared = Prepared(Path(task["prepared"]))
    scales, held_out = (prepared.subset(part) for part in split(prepared.metas))
    model = ov.Core().read_model(task["onnx"])
    # NNCF opens every candidate by this function, and has no option for how.
    ov.compile_model = partial(_compiled, ov.Core())
    validate = Validation(held_out, how, ov.compile_model(model))
    started = time.perf_counter()
    made = nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(range(len(scales)), lambda i: scales.image(i)[None]),
        nncf.Dataset(range(len(held_out))),
        validate,
        max_drop=how.max_ap_drop / 100,
        drop_type=nncf.DropType.ABSOLUTE,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(scales),
        # It ranks on as few images as the farm does, in one process: each of its groups is judged.
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
            ranking_subset_size=how.images, num_ranking_workers=1
        ),
    )
    seconds = time.perf_counter() - started
    ov.save_model(made, task["out"], compress_to_fp16=False)
    counts = {"evaluations": validate.full, "images": validate.images, "seconds": seconds}
    Path(task["out"]).with_suffix(".json").write_text(json.dumps(counts))


def _compiled(core: ov.Core, model: ov.Model, *_: Any, **__: Any) -> ov.CompiledModel:
    return core.compile_model(model, "CPU", _F32)


if __name__ == "__main__":
    main()
