"""A loaded mmdet detector: its facts, mmdet's own results, its module to export and ONNX file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import numpy as np
import numpy.typing as npt
import pycocotools.mask
import torch

from farm import specs
from farm.detections import Detections, ImageMeta, masks
from farm.errors import StepFailed
from farm.sources import onnx_files
from farm.sources.checkpoints import weights
from farm.sources.mmdet import config, graphs, partial_graphs, patches
from farm.sources.mmdet.data import labels, pipeline, test_data
from farm.sources.mmdet.dense import coders
from farm.sources.mmdet.parts import class_count, last_head

Image = npt.NDArray[Any]


@dataclass(frozen=True)
class Detector:
    """One detector with its weights, in eval mode, on the CPU."""

    model: Any
    facts: specs.ModelFacts

    @torch.no_grad()
    def reference(self, image: Image, meta: ImageMeta) -> Detections:
        """Run mmdet's own test path on one prepared image [3, H, W].

        Boxes are in pixels of the original image; masks are `rles` of its size.
        """
        factors = (meta.scale_x, meta.scale_y) * 2
        info = _meta(
            (meta.height, meta.width),
            (meta.valid_h, meta.valid_w),
            (meta.original_h, meta.original_w),
            factors,
            meta.file_name,
            (meta.top, meta.top + meta.valid_h, meta.left, meta.left + meta.valid_w),
        )
        return self._found(image, info)

    @torch.no_grad()
    def reference_as_graph(self, image: Image) -> Detections:
        """Run mmdet's own test path on [3, H, W] with the information that an exported graph has.

        The full input counts as image, padding included. Boxes are in pixels of the network's
        input; masks are `rles` of its size, pasted by mmdet.
        """
        size = image.shape[1:]
        info = _meta(size, size, size, (1.0, 1.0, 1.0, 1.0), "")
        return self._found(image, info)

    def _found(self, image: Image, info: dict[str, Any]) -> Detections:
        result = self.model.simple_test(_batch(image), [info], rescale=True)[0]
        if isinstance(result, dict):  # returned by the mask transformers
            result = result["ins_results"]
        boxes, segments = result if isinstance(result, tuple) else (result, None)
        found = _from_classes(boxes, segments)
        if self.facts.mask_frame == "segments":  # mmdet gives zeros for their boxes
            found = replace(found, boxes=masks.boxes_around(found.rles or ()))
        return found

    @torch.no_grad()
    def raw(self, images: Image) -> dict[str, Image]:
        """Return the heads' outputs for [N, 3, H, W] by name: `forward_dummy`, flattened."""
        module: Any = graphs.graph(self.model, "none")
        values = module(torch.from_numpy(images))
        return {n: v.numpy() for n, v in zip(module.outputs, values, strict=True)}

    def graph(self, postprocess: str = "graph") -> torch.nn.Module:
        """Return the module to export; `graphs.graph` documents its input and outputs.

        Raises:
            StepFailed: the model cannot be exported with this `postprocess`.
        """
        facts = self.facts
        host = facts.refused or facts.host_refused
        refused = {"graph": facts.refused, "host": host, "none": facts.raw_refused}
        if reason := refused[postprocess]:
            raise StepFailed(reason)
        return graphs.graph(self.model, postprocess)

    def export(
        self, shape: specs.Shape, opset: int, path: Path, postprocess: str = "graph"
    ) -> None:
        """Write `path`: `images` [N, 3, H, W] -> the outputs that `graphs.graph` documents.

        The operators are standard ones, in place of mmcv's.

        Raises:
            StepFailed: the model cannot be exported with this `postprocess`, this opset lacks an
                operator, or ONNX's checker refuses the file.
        """
        with patches.standard(opset):
            onnx_files.write(self.graph(postprocess), shape, opset, path)


def load(model: specs.Model) -> Detector:
    """Read the config, build the detector and load the checkpoint's weights.

    Raises:
        InputError: config or checkpoint is missing or unreadable, or they do not fit each other.
        StepFailed: the config's test pipeline is of a kind that cannot be prepared here.
    """
    where = model.config.path
    settings = config.read(model)
    prepared = test_data.canonical_pipeline(settings, where)
    detector = config.build(settings, where)
    state, meta = weights.read(model.checkpoint.path, model.allow_pickle)
    weights.fit(detector, state, model.checkpoint.path)
    facts = specs.ModelFacts(
        masks=graphs.has_masks(detector),
        pipeline=prepared,
        clips_boxes=_clips_boxes(detector),
        mask_threshold=_mask_threshold(detector),
        mask_frame=graphs.mask_frame(detector),
        raw_refused=partial_graphs.raw_refusal(detector),
        padded_to=pipeline.padded_to(prepared),
        test_settings=_test_settings(detector),
        **_labels(detector, meta, settings, model),
        **_refusals(detector),
    )
    return Detector(detector, facts)


def _labels(
    detector: Any, meta: dict[str, Any], settings: Any, model: specs.Model
) -> dict[str, Any]:
    """The facts on the class of each label, and on the source of that order."""
    names, certain = labels.class_names(settings, meta, model, class_count(detector))
    found = labels.in_label_order(settings, names, certain, model.config.path)
    return {
        "classes": found.names,
        "labels_from": found.said_by,
        "labels_doubt": found.doubt,
        "labels_contradicted": found.contradicted,
    }


def _test_settings(detector: Any) -> str:
    """What its config states for testing, as JSON; what JSON does not have as text."""
    stated = _with_text_keys(getattr(detector, "test_cfg", None) or {})
    return json.dumps(stated, sort_keys=True, default=str)


def _with_text_keys(value: Any) -> Any:
    """The same values with keys that can be sorted: a config may mix numbers and texts."""
    if isinstance(value, Mapping):
        return {str(key): _with_text_keys(one) for key, one in value.items()}
    return [*map(_with_text_keys, value)] if isinstance(value, list | tuple) else value


def _clips_boxes(detector: Any) -> bool:
    """Whether boxes are clipped to the image; the coders of the YOLO heads never clip."""
    if (stated := graphs.clips_boxes(detector)) is not None:
        return stated
    return coders.clips(getattr(last_head(detector), "bbox_coder", None))


def _mask_threshold(detector: Any) -> float:
    """The probability (or logit) from which a pixel belongs to the object."""
    if (stated := graphs.mask_threshold(detector)) is not None:
        return stated
    settings = getattr(getattr(detector, "roi_head", None), "test_cfg", None) or {}
    value = settings.get("mask_thr_binary", 0.5)
    return float(value) if isinstance(value, int | float) else 0.5  # no export then


def _refusals(detector: Any) -> dict[str, Any]:
    """The facts on export: the final suppression, or why a graph cannot be exported."""
    try:
        form = graphs.graph(detector)
    except ValueError as error:
        return {"refused": str(error)}
    try:
        return {"suppression": partial_graphs.final_suppression(form)}
    except ValueError as error:
        return {"host_refused": str(error)}


def _batch(image: Image) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).unsqueeze(0)


def _meta(
    size: tuple[int, ...],
    valid: tuple[int, ...],
    original: tuple[int, ...],
    factors: tuple[float, ...],
    name: str,
    border: tuple[int, ...] = (0, 0, 0, 0),
) -> dict[str, Any]:
    """`border`: top, bottom, left and right of the image within the network's input."""
    return {
        "filename": name,
        "ori_filename": name,
        "ori_shape": (*original, 3),
        "img_shape": (*valid, 3),
        "pad_shape": (*size, 3),
        "batch_input_shape": tuple(size),
        "border": border,
        "scale_factor": np.array(factors, dtype=np.float32),
        "flip": False,
        "flip_direction": None,
    }


def _from_classes(per_class: list[Any], segments: Any) -> Detections:
    """Detections from mmdet's result: one array [K, 5] per class, and masks in the same order.

    Mask Scoring R-CNN returns a pair instead of the masks: the masks, and their scores in the same
    structure.
    """
    dets = np.concatenate(per_class).astype(np.float32)
    labels = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(per_class)])
    order = np.argsort(-dets[:, 4], kind="stable")
    rles = scores = None
    if isinstance(segments, tuple):
        segments, own = segments
        scores = np.concatenate(own).astype(np.float32)[order]
    if segments is not None:
        flat = [mask for of_class in segments for mask in of_class]
        rles = tuple(pycocotools.mask.encode(np.asfortranarray(flat[i], np.uint8)) for i in order)
    labels = labels[order].astype(np.int64)
    return Detections(dets[order, :4], dets[order, 4], labels, None, rles, scores)
