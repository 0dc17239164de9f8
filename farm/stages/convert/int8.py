"""int8 of stage convert: calibrated on prepared images, harmful layers kept in fp32."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import onnx

from farm.datasets.prepared import Prepared
from farm.errors import StepFailed
from farm.precision import auto, quantised
from farm.runtimes.onnxruntime.sessions import CpuSession, cpu_session
from farm.stages.convert.held_out import HeldOut, split
from farm.stages.inference import Decoding, detect, prepared_batches

if TYPE_CHECKING:
    from farm.detections import Detections
    from farm.specs import Auto, Quantisation
    from farm.stages import Context

log = logging.getLogger(__name__)


_OF_MASKS = ("masks", "mask_scores")
"""Outputs that take no part in box AP."""


@dataclass(frozen=True)
class Result:
    """The int8 model and its layers; with `auto`, the figures of its search."""

    model: onnx.ModelProto
    layers: list[str]
    figures: Mapping[str, Any]


def convert(
    model: onnx.ModelProto, kept: Sequence[str], how: Quantisation, context: Context
) -> Result:
    """Quantise the network of a model, but for the layers in `kept`.

    Raises:
        StepFailed: there is no layer to quantise; or `auto` cannot judge, since there are too few
            calibration images, or fp32 finds nothing on those that are held out.
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
    figures: Mapping[str, Any] = {"auto": []}
    if how.auto is not None:
        harmful, figures = _AutoSearch(quantiser, how.auto).search(layers)
        layers = [name for name in layers if name not in harmful]
    return Result(quantiser.finished(layers), layers, figures)


class _Quantiser:
    """Makes int8 files of an fp32 file: calibrated once, with any choice of layers."""

    def __init__(self, model: onnx.ModelProto, how: Quantisation, context: Context) -> None:
        self.model, self._how = model, how
        self.threads, self.folder = context.threads, context.folder
        self.batch = how.batch
        prepared = Prepared(context.artifact(how.calibration))
        self.images, self.held_out = prepared, prepared.subset(())
        if how.auto is not None:
            own, held_out = split(prepared.metas)
            self.images, self.held_out = prepared.subset(own), prepared.subset(held_out)
        self._ranges: Any = None

    def calibrate(self, values: Sequence[str]) -> None:
        """Measure the ranges of these values over its images."""
        file = self.folder / "fp32.onnx"
        onnx.save(self.model, str(file))
        images = (batch for _, batch in self.images.batches(self.batch))
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
        images = quantiser.held_out
        found = self._detect(quantiser.model)
        self._held_out = HeldOut(found, images.metas, images.annotations, how, quantiser.folder)

    def search(self, layers: Sequence[str]) -> tuple[list[str], Mapping[str, Any]]:
        """Find the layers to keep in fp32, and return them with the figures of the search."""

        def judge(kept: Sequence[str]) -> auto.Candidate:
            int8 = [name for name in layers if name not in kept]
            drop = self._held_out.drop(self._detect(self._quantiser.int8(int8)))
            log.info(
                "%d of %d layers in fp32: %.2f points lost, at most %.2f",
                len(kept), len(layers), drop.ap, drop.high,
            )  # fmt: skip
            return auto.Candidate(len(kept), drop.ap, drop.high)

        bound = self._how.max_ap_drop
        kept, tried = auto.search(layers, lambda: self._ranked(layers), judge, bound)
        if len(kept) == len(layers):
            log.warning(f"int8 auto leaves all layers in fp32: no choice loses {bound} or less")
        return kept, {
            "auto": [asdict(one) for one in tried],
            "auto_evaluations": len(tried),
            **self._held_out.figures(),
        }

    def _ranked(self, layers: Sequence[str]) -> list[str]:
        """Rank layers, most harmful first, by the noise at the outputs with one of them in int8."""
        reached = auto.reached_outputs(self._quantiser.model.graph)
        ends = sorted(set().union(*reached.values()))
        few = self._quantiser.images.batches(self._quantiser.batch)
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
        batches = prepared_batches(self._quantiser.held_out, self._quantiser.batch)
        return list(detect(session, batches, decoding))
