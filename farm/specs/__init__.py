"""The frozen inputs of the stages: what the plan hands to an executor and a stage receives.

A field marked `key=False` is a path or a name: it never decides what a step produces, and is not in
the step's key. One marked `default_in_key=False` is in the key only where it differs from its
default: work done before the field existed keeps its key.
"""

from __future__ import annotations

from farm.specs.cells import (
    Cell,
    CocoDataset,
    Dataset,
    Engine,
    EngineOptions,
    FolderDataset,
    Gpu,
    OtherDataset,
    Ref,
    Shape,
    ShapesDataset,
    Target,
    Tolerance,
)
from farm.specs.environments import Environment
from farm.specs.facts import ModelFacts, Used
from farm.specs.models import (
    AnyModel,
    CachePath,
    Decay,
    File,
    Model,
    ModuleModel,
    OnnxModel,
    Options,
    OtherModel,
    Preprocess,
    Suppression,
)
from farm.specs.sizes import Sizes
from farm.specs.stages import (
    Auto,
    BuildInputs,
    CheckInputs,
    ConfigInputs,
    ConvertInputs,
    EngineInputs,
    EvaluateInputs,
    ExportInputs,
    ExtraInputs,
    MeasureInputs,
    PrepareInputs,
    Quantisation,
    RandomModelInputs,
    ReferenceInputs,
    StageInputs,
    TrialInputs,
    VerifyInputs,
    refs_of,
)

__all__ = [
    "AnyModel",
    "Auto",
    "BuildInputs",
    "CachePath",
    "Cell",
    "CheckInputs",
    "CocoDataset",
    "ConfigInputs",
    "ConvertInputs",
    "Dataset",
    "Decay",
    "Engine",
    "EngineInputs",
    "EngineOptions",
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
