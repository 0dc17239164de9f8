"""int8 of stage convert: calibrated on prepared images, harmful layers kept in fp32."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from farm.datasets import coco
from farm.datasets.prepared import Prepared
from farm.errors import StepFailed
from farm.precision import auto, quantised
from farm.runtimes.onnxruntime.sessions import CpuSession, cpu_session
from farm.stages.inference import Decoding, detect, prepared_batches

if TYPE_CHECKING:
    from farm.detections import Detections, ImageMeta
    from farm.specs import Auto, Quantisation
    from farm.stages import Context

log = logging.getLogger(__name__)


_OF_MASKS = ("masks", "mask_scores")
"""Outputs that take no part in box AP."""


@dataclass(frozen=True)
class Result:
    """The int8 model, its layers, and the steps of the search of `auto`."""

    model: onnx.ModelProto
    layers: list[str]
    tried: list[auto.SearchStep]


def convert(
    model: onnx.ModelProto, kept: Sequence[str], how: Quantisation, context: Context
) -> Result:
    """Quantise the network of a model, but for the layers in `kept`.

    Raises:
        StepFailed: there is no layer to quantise, or the model in fp32 finds nothing on the
            calibration images, so that `auto` has no AP to compare.
    """
    quantised.inline_weights(model.graph)
    inputs = quantised.quantisable(model.graph)
    layers = [name for name in inputs if name not in kept]
    if not layers:
        raise StepFailed(
            "no layer can be quantised to int8: none has constant weights, or all are kept in fp32"
        )
    quantiser = _Quantiser(model, how, context)
    added = quantised.inputs_of_additions(model.graph, layers)
    quantiser.calibrate([*(inputs[name] for name in layers), *added])
    tried: list[auto.SearchStep] = []
    if how.auto is not None:
        harmful, tried = _AutoSearch(quantiser, how.auto).search(layers)
        layers = [name for name in layers if name not in harmful]
    return Result(quantiser.finished(layers), layers, tried)


class _Quantiser:
    """Makes int8 files of an fp32 file: calibrated once, with any choice of layers."""

    def __init__(self, model: onnx.ModelProto, how: Quantisation, context: Context) -> None:
        self.model, self._how = model, how
        self.threads, self.folder = context.threads, context.folder
        self.batch = how.batch
        self.prepared = Prepared(context.artifact(how.calibration))
        self._ranges: Any = None

    def calibrate(self, values: Sequence[str]) -> None:
        """Measure the ranges of these values over the calibration images."""
        file = self.folder / "fp32.onnx"
        onnx.save(self.model, str(file))
        images = (batch for _, batch in self.prepared.batches(self.batch))
        how = self._how
        self._ranges = quantised.measure_ranges(
            file, values, images, how.method, how.percentile, self.folder, self.threads
        )
        file.unlink()

    def finished(self, layers: Sequence[str]) -> onnx.ModelProto:
        """Return the file with these layers in int8, and the scales that builders may need."""
        made = quantised.quantise(self.model, self._ranges, layers)
        added = quantised.inputs_of_additions(self.model.graph, layers)
        quantised.store_scales(made, self._ranges, added)
        return made

    def int8(self, layers: Sequence[str], ends: Sequence[str] = ()) -> onnx.ModelProto:
        """Return the file with these layers in int8; `ends` are additional outputs."""
        made = quantised.quantise(self.model, self._ranges, layers)
        known = {output.name for output in made.graph.output}
        made.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, 1, None) for name in ends if name not in known
        )
        return made


class _AutoSearch:
    def __init__(self, quantiser: _Quantiser, how: Auto) -> None:
        self._quantiser, self._how = quantiser, how
        self._fp32 = self._detect(quantiser.model)
        self._truth = quantiser.prepared.annotations
        self._metric = "box_ap"
        if not how.annotated:
            self._truth, self._metric = quantiser.folder / "truth.json", "box_ap50"
            _write_truth(self._truth, self._fp32, quantiser.prepared.metas, how)
        self._reference = self._precision(self._fp32)

    def search(self, layers: Sequence[str]) -> tuple[list[str], list[auto.SearchStep]]:
        """Find the layers to keep in fp32; they are ranked only if any must be kept."""

        def lost(kept: Sequence[str]) -> float:
            int8 = [name for name in layers if name not in kept]
            drop = 100 * (
                self._reference - self._precision(self._detect(self._quantiser.int8(int8)))
            )
            log.info("%d of %d layers in fp32: %.2f points lost", len(kept), len(layers), drop)
            return drop

        first = auto.SearchStep(0, lost(()))
        if first.ap_drop <= self._how.max_ap_drop:
            return [], [first]
        kept, tried = auto.search(self._ranked(layers), lost, self._how.max_ap_drop)
        return kept, tried

    def _ranked(self, layers: Sequence[str]) -> list[str]:
        """Rank layers, most harmful first, by the noise at the outputs with one of them in int8."""
        reached = auto.reached_outputs(self._quantiser.model.graph)
        ends = sorted(set().union(*reached.values()))
        few = self._quantiser.prepared.batches(self._quantiser.batch)
        batches = [images for _, images in itertools.islice(few, self._how.images)]
        fp32 = self._values((), ends, batches)
        harm = {
            name: auto.relative_noise(
                fp32, self._values((name,), ends, batches), sorted(reached[name])
            )
            for name in layers
        }
        return sorted(layers, key=lambda name: -harm[name])

    def _values(
        self, layers: Sequence[str], ends: Sequence[str], batches: Sequence[Any]
    ) -> list[Mapping[str, Any]]:
        session = self._session(self._quantiser.int8(layers, ends), ends)
        return [session.run(images) for images in batches]

    def _session(self, model: onnx.ModelProto, outputs: Sequence[str]) -> CpuSession:
        opened = cpu_session(model.SerializeToString(), self._quantiser.threads)
        return CpuSession(opened, outputs)

    def _detect(self, model: onnx.ModelProto) -> list[Detections]:
        names = [output.name for output in model.graph.output if output.name not in _OF_MASKS]
        session, how = self._session(model, names), self._how
        decoding = Decoding(len(how.classes), how.clip, suppression=how.suppression)
        batches = prepared_batches(self._quantiser.prepared, self._quantiser.batch)
        return list(detect(session, batches, decoding))

    def _precision(self, found: Sequence[Detections]) -> float:
        prepared, classes = self._quantiser.prepared, self._how.classes
        figures = coco.average_precision(self._truth, found, prepared.metas, classes, False)
        value: float | None = figures[self._metric]
        if value is None or (not value and found is self._fp32):
            raise StepFailed(
                "int8 auto has no AP to compare: fp32 finds nothing on the calibration images"
            )
        return value


def _write_truth(
    path: Path, found: Sequence[Detections], metas: Sequence[ImageMeta], how: Auto
) -> None:
    """Write the boxes of the fp32 model as annotations in COCO's format."""
    rows: list[dict[str, Any]] = []
    for one, meta in zip(found, metas, strict=True):
        for box, score, label in zip(one.boxes.tolist(), one.scores, one.labels, strict=True):
            if score >= how.min_score:
                sides = [box[2] - box[0], box[3] - box[1]]
                rows.append({
                    "id": len(rows) + 1, "image_id": meta.image_id, "category_id": int(label) + 1,
                    "bbox": [*box[:2], *sides], "area": sides[0] * sides[1], "iscrowd": 0,
                })  # fmt: skip
    images = [{"id": one.image_id, "file_name": one.file_name} for one in metas]
    categories = [{"id": i, "name": name} for i, name in enumerate(how.classes, start=1)]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))


def figures(result: Result) -> Mapping[str, Any]:
    """Return the figures of a conversion, which are kept beside the file."""
    return {"auto": [asdict(one) for one in result.tried]}
