"""The facts of a model that only its own code has."""

from __future__ import annotations

from dataclasses import dataclass

from farm.specs.matrix import Suppression
from farm.specs.sizes import Sizes


@dataclass(frozen=True)
class Used:
    """One thing that a model was made of, beside the files that its matrix names.

    kind: one of `USED`, which describes `name` and `digest`. place: the path of the file, relative
    to the folder of the config or matrix, or absolute where they have no folder in common; for the
    kind `sought`, in which folders it was looked for.
    """

    kind: str
    name: str
    digest: str
    place: str = ""


USED = {
    "file": "a file that was opened",
    "module": "a Python module that is no part of a package with a version, by its name",
    "package": "an installed package, and its version",
    "variable": "an environment variable, and the digest of its value",
    "folder": "a folder that was listed, and the digest of the names in it, folders marked",
    "exists": "a path whose existence was tested: whether it exists, and a file's content",
    "link": "a path that was inspected without following a link: where the link leads",
    "import": "a module that was looked for in vain; the place is a folder, '' for Python's path",
    "current": "the current folder, by its place: something was looked for from there",
    "sought": "a file that the config names and the farm looked for in several folders",
    "config": "the config as mmcv merged it; compared by nothing, but part of later keys",
    "unfollowed": "a description of what was done whose outcome may change unnoticed",
}


@dataclass(frozen=True)
class ModelFacts:
    """What the stage `check` learns by running the model's own code, for the plan.

    `pipeline` is the text of a `specs.pipeline.Pipeline`, or the canonical JSON of a test pipeline
    that only MMDetection runs; two models with the same one share their prepared images.
    `clips_boxes`: whether it clips its boxes to the image (YOLOX does not). `mask_threshold`: the
    probability (or logit) from which a pixel is the object's. `mask_frame`: what the engine's masks
    span: each "box", or the whole input, in one of the ways of `detections.masks`: "image",
    "segments" and "queries", whose boxes are those around their masks.
    `refused` says why the model cannot be run here, if so; `host_refused` and `raw_refused` why
    its graph cannot end before the suppression, or at its raw outputs. `suppression` is the one
    that then runs on the host; None for a model without one.
    `input_shape` is what a ready model takes (None for a free axis), `opset` a ready file's own.
    `used`: what it was made of when these were found.
    `classes` are the names of label 0, 1, ...; `labels_from` says what gives them in this order.
    Where nothing does, `labels_doubt` says why, and whether the order is contradicted, too.
    `data`: for a matrix with `dataset: config`, the data set that the config names, as the JSON of
    an entry of a matrix.
    `sizes` are the heights and widths that the network takes, None for any; `padded_to` those that
    the test pipeline can pad an image of a fixed shape to.
    `test_settings`: the settings that the model's config states for testing (`test_cfg`), as JSON.
    """

    classes: tuple[str, ...]
    masks: bool
    pipeline: str
    clips_boxes: bool = True
    mask_threshold: float = 0.5
    mask_frame: str = "box"
    refused: str | None = None
    suppression: Suppression | None = None
    host_refused: str | None = None
    raw_refused: str | None = None
    input_shape: tuple[int | None, ...] | None = None
    opset: int | None = None
    used: tuple[Used, ...] = ()
    labels_from: str = ""
    labels_doubt: str = ""
    labels_contradicted: bool = False
    data: str = ""
    sizes: Sizes | None = None
    padded_to: Sizes | None = None
    test_settings: str = ""
