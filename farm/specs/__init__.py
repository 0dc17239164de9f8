"""The frozen inputs of the stages: what the plan hands to an executor and a stage receives.

A field marked `key=False` is a path or a name: it never decides what a step produces, and is not in
the step's key. One marked `default_in_key=False` is in the key only where it differs from its
default: work done before the field existed keeps its key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from farm.specs.cells import Cell, Gpu, Tolerance
from farm.specs.engines import (
    BuildInputs,
    CachePath,
    CompareInputs,
    Engine,
    EngineOptions,
    Entrant,
    EvaluateInputs,
    ExtraInputs,
    MeasureInputs,
    TrialInputs,
    VerifyInputs,
)
from farm.specs.environments import Environment
from farm.specs.facts import ModelFacts, Used
from farm.specs.matrix import (
    AnyModel,
    CocoDataset,
    Dataset,
    Decay,
    Dims,
    File,
    FolderDataset,
    Model,
    ModuleModel,
    OnnxModel,
    Options,
    OtherDataset,
    OtherModel,
    Preprocess,
    Ref,
    Shape,
    ShapesDataset,
    Suppression,
    Target,
)
from farm.specs.sizes import Sizes
from farm.specs.stages import (
    Auto,
    CheckInputs,
    ConfigInputs,
    ConvertInputs,
    ExportInputs,
    PrepareInputs,
    Quantisation,
    RandomModelInputs,
    ReferenceInputs,
)

__all__ = [
    "AnyModel",
    "Auto",
    "BuildInputs",
    "CachePath",
    "Cell",
    "CheckInputs",
    "CocoDataset",
    "CompareInputs",
    "ConfigInputs",
    "ConvertInputs",
    "Dataset",
    "Decay",
    "Dims",
    "Engine",
    "EngineInputs",
    "EngineOptions",
    "Entrant",
    "Environment",
    "EvaluateInputs",
    "ExportInputs",
    "ExtraInputs",
    "File",
    "FolderDataset",
    "Gpu",
    "MeasureInputs",
    "Model",
    "ModelFacts",
    "ModuleModel",
    "OnnxModel",
    "Options",
    "OtherDataset",
    "OtherModel",
    "PrepareInputs",
    "Preprocess",
    "Quantisation",
    "RandomModelInputs",
    "Ref",
    "ReferenceInputs",
    "Shape",
    "ShapesDataset",
    "Sizes",
    "StageInputs",
    "Suppression",
    "Target",
    "Tolerance",
    "TrialInputs",
    "Used",
    "VerifyInputs",
    "refs_of",
]

StageInputs = (
    CheckInputs
    | PrepareInputs
    | ReferenceInputs
    | ExportInputs
    | ConvertInputs
    | BuildInputs
    | VerifyInputs
    | EvaluateInputs
    | MeasureInputs
    | CompareInputs
    | ExtraInputs
    | ConfigInputs
    | RandomModelInputs
    | TrialInputs
)

EngineInputs = VerifyInputs | EvaluateInputs | MeasureInputs | ExtraInputs | TrialInputs
"""Of the stages that run an engine."""


def refs_of(value: Any) -> Iterator[Ref]:
    """Yield the artifacts that frozen inputs name: those that a step reads."""
    if isinstance(value, Ref):
        yield value
    elif is_dataclass(value):
        for one in fields(value):
            yield from refs_of(getattr(value, one.name))
    elif isinstance(value, tuple):
        for one in value:
            yield from refs_of(one)
