"""`bundle.json`: everything that a program, or a person, needs to know of a bundled engine."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import farm
from farm.bundle import onnx_file, pipeline
from farm.bundle.detector import SCHEMA
from farm.results.names import outer

if TYPE_CHECKING:
    import onnx

    from farm.bundle.cells import FinishedCell
    from farm.specs import ModelFacts

Json = dict[str, Any]

_FIGURES = (
    "box_ap", "mask_ap", "voc_map", "latency_", "throughput_", "serial_", "server_", "vs_best",
    "speedup_", "matched_", "max_", "min_", "rank", "stable", "samples", "threads", "batch",
    "engine_bytes", "onnx_bytes", "peak_host_bytes", "evaluate_images", "measured_at",
    "device_p50", "host_p50",
)  # fmt: skip
"""How the names of the columns begin that are figures of the engine."""

_DETECTIONS = {
    "dets": "float32 [N, K, 5]: x1 y1 x2 y2 in pixels of the network's input, and the score; rows"
    " of score 0 are empty",
    "labels": "int64 [N, K]: the index in `labels`; -1 in empty rows",
}
_CANDIDATES = {
    "boxes": "float32 [N, M, 4]: x1 y1 x2 y2 in pixels of the network's input",
    "scores": "float32 [N, M]: 0 takes no part",
    "labels": "int64 [N, M]: the index in `labels`",
}
_MASKS = {
    "box": "float32 [N, K, m, m]: probabilities inside of each box",
    "image": "float32 [N, K, h, w]: probabilities over the whole input",
    "segments": "float32 [N, K, h, w]: probabilities over the whole input",
    "queries": "float32 [N, K, h, w]: logits over the whole input",
}


def manifest(cell: FinishedCell, model: onnx.ModelProto, engine_file: str) -> Json:
    """Return the content of `bundle.json`, but for its files, its sample and its digest.

    model: the ONNX file as the runtime reads it.
    """
    row, facts, shape = cell.row, cell.facts, cell.options.shape
    prepared = pipeline.pipeline_for(facts.pipeline, shape)
    return {
        "schema": SCHEMA,
        "farm": farm.__version__,
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cell": row["cell"],
        "sweep": row["sweep"],
        "model": row["model"],
        "labels": list(facts.classes),
        "labels_from": facts.labels_from or "the matrix",
        "input": {
            "name": onnx_file.input_name(model),
            "type": "float32",
            "layout": "NCHW",
            "shape": {end: getattr(shape, end).as_tuple() for end in ("min", "opt", "max")},
            **pipeline.description(prepared),
        },
        "preprocess": pipeline.steps(prepared, shape),
        "outputs": _outputs(cell),
        "postprocess": _postprocess(cell, onnx_file.most_detections(model)),
        "test_settings": _test_settings(cell.facts),
        "engine": _engine(cell, engine_file),
        "onnx": {
            "file": "model.onnx",
            "opset": onnx_file.opset(model),
            "precision": row["precision"],
            "portable": True,
        },
        "versions": _versions(cell),
        "figures": {
            outer(name): value
            for name, value in row.items()
            if name.startswith(_FIGURES) and value is not None
        },
        "made_of": cell.records["check"].inputs["model"],
        "keys": {stage: record.key for stage, record in cell.records.items()},
    }


def _outputs(cell: FinishedCell) -> Json:
    if cell.row["postprocess"] == "host":
        return dict(_CANDIDATES)
    masks = {"masks": _MASKS[cell.facts.mask_frame]} if cell.facts.masks else {}
    return {**_DETECTIONS, **masks}


def _test_settings(facts: ModelFacts) -> Json | None:
    """Return what the config states for testing; None of a source that has no config."""
    return json.loads(facts.test_settings) if facts.test_settings else None


def _postprocess(cell: FinishedCell, most: int | None) -> Json:
    """Return what follows the network, and what bounds its detections.

    most: how many detections the graph gives at most, as far as the file says that.
    """
    facts, host = cell.facts, cell.row["postprocess"] == "host"
    evaluated = cell.records["evaluate"].inputs
    suppression = facts.suppression if host else None
    own = _of_last_stage(_test_settings(facts) or {})
    stated = own.get("max_per_img", own.get("max_per_image"))
    return {
        "score_threshold": own.get("score_thr"),
        "max_detections": suppression.keep if suppression else most or stated,
        "suppression": asdict(suppression) if suppression else None,
        "clip_boxes": bool(evaluated["clip"]),
        "masks": facts.masks,
        "mask_threshold": facts.mask_threshold,
        "mask_frame": facts.mask_frame,
    }


def _of_last_stage(settings: Json) -> Json:
    """Return the settings of the stage whose boxes the detector gives."""
    return settings.get("rcnn") or settings.get("rpn") or settings


def _engine(cell: FinishedCell, file: str) -> Json:
    device = str(cell.records["build"].node["device"])
    return {
        "file": file,
        "runtime": cell.runtime,
        "version": cell.runtime_version,
        "device": device,
        **(_gpu(cell) if cell.runtime == "tensorrt" else _cpu(device)),
        "portable": False,
        "properties": _properties(cell),
    }


def _cpu(device: str) -> Json:
    sets = instruction_sets(device)
    return {"instruction_sets": sets, "machine": _machine(sets)}


def _gpu(cell: FinishedCell) -> Json:
    """Return where a plan can run, as its build has written it down."""
    from farm.runtimes.tensorrt import engine

    facts = asdict(engine.read(cell.engine))
    names = ("gpu", "compute_capability", "driver", "cuda")
    return {name: facts[name] for name in (*names, "version_compatible", "hardware_compatible")}


def _machine(sets: Collection[str]) -> str:
    """The kind of machine that has these instruction sets, as `platform.machine` names it: the
    engine may be of another node than this one."""
    if not sets:
        return platform.machine()
    return "aarch64" if {"asimd", "neon"} & {*sets} else "x86_64"


def instruction_sets(device: str) -> list[str]:
    """Return the instruction sets that the name of a kind of processor ends with.

    `Intel Xeon, Ice Lake (avx2 avx512f)`: those in brackets; `(no avx2)` is none.
    """
    found = re.search(r"\(([^()]*)\)$", device)
    return found[1].split() if found and not found[1].startswith("no ") else []


def _properties(cell: FinishedCell) -> Json:
    """Return what the runtime is told when the engine is opened."""
    if cell.runtime == "openvino":
        from farm.runtimes.openvino.adapter import properties

        return properties(cell.options)
    return dict(cell.options.options)


def _versions(cell: FinishedCell) -> Mapping[str, str]:
    """Return the versions of the packages that made, prepared for and ran the engine."""
    found: dict[str, str] = {}
    for stage in ("export", "convert", "prepare", "build"):
        if record := cell.records.get(stage):
            found |= record.toolchain
    return {"python": str(cell.records["build"].node.get("python", "")), **found}


def onnx_metadata(bundle: Json) -> Json:
    """Return what of a bundle's content goes into the metadata of its ONNX file."""
    own = bundle["input"]
    return {
        "names": bundle["labels"],
        **{name: own[name] for name in ("mean", "std", "channel_order", "resize", "pad")},
        "input_range": own["range"],
        "outputs": bundle["outputs"],
        "postprocess": bundle["postprocess"],
        "made_of": bundle["made_of"],
        "farm": bundle["farm"],
    }
