"""What `farm export` writes into its ONNX file, and how that is known again as the store's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import farm
from farm.bundle import onnx_file
from farm.specs import ExportInputs, Model, ModelFacts, Ref
from farm.specs.pipeline import is_mmdets

if TYPE_CHECKING:
    from farm.store import Store

_KEY = "export_key"


def described(path: Path, values: ExportInputs, facts: ModelFacts | None) -> bytes:
    """Return the store's file with what a program needs to know of it in its `metadata_props`.

    Names are left out where the config does not say which class each label is.
    """
    content: dict[str, Any] = {"farm": farm.__version__, _KEY: path.parent.name}
    if isinstance(values.model, Model):
        model = values.model
        content["made_of"] = {"config": model.config.digest, "checkpoint": model.checkpoint.digest}
    if facts is not None:
        content |= _of_facts(facts, values)
    return onnx_file.described(path, content)


def _of_facts(facts: ModelFacts, values: ExportInputs) -> dict[str, Any]:
    from farm.bundle import pipeline  # with OpenCV, which building from a file does not need

    content: dict[str, Any] = {
        "postprocess": {
            "ends": values.postprocess,
            "clip_boxes": facts.clips_boxes,
            "mask_threshold": facts.mask_threshold,
            "mask_frame": facts.mask_frame,
        }
    }
    if facts.labels_doubt:
        content["names_unknown"] = facts.labels_doubt
    else:
        content["names"] = list(facts.classes)
    if facts.pipeline and is_mmdets(facts.pipeline):
        content["pipeline"] = facts.pipeline
    elif facts.pipeline:
        found = pipeline.description(pipeline.pipeline_for(facts.pipeline, values.shape))
        content |= {"input_range": found.pop("range"), **found}
    return content


def artifact_of(path: Path, store: Store) -> Ref | None:
    """Return the artifact of the store that `described` has made this file of, if it is one."""
    try:
        own = onnx_file.metadata(path)
    except (OSError, ValueError):
        return None
    ref = Ref("export", own.get(_KEY, ""))
    if not re.fullmatch("[0-9a-f]{64}", ref.key):  # anyone may have written it
        return None
    if store.record(ref) is None or store.altered(ref):
        return None
    again = onnx_file.described(store.files(ref) / "model.onnx", own)
    return ref if again == path.read_bytes() else None
