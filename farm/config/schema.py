"""What a matrix may say: pydantic models, the edge where the outside world comes in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from farm.config.measuring import CompareSpec, MeasureSpec, RacingSpec, default_or_none
from farm.config.models import AnyModelSpec, DatasetSpec
from farm.config.quantising import CalibrationSpec, Int8Spec, _auto
from farm.config.values import (
    AxesSpec,
    Bytes,
    Capability,
    Driver,
    Duration,
    Name,
    Opset,
    Options,
    Postprocess,
    Precision,
    PythonVersion,
    Requirement,
    RuntimeName,
    ShapeDims,
    axis,
)
from farm.options import Finite, StrictModel, Text, Whole, distinct
from farm.specs import Tolerance


class SelectionSpec(AxesSpec):
    models: axis(Name) | None = None  # type: ignore[valid-type]


class ShapeSpec(StrictModel):
    """`opt` alone is a fixed shape; with `min` and `max` the engine takes all between them."""

    opt: ShapeDims
    min: ShapeDims | None = None
    max: ShapeDims | None = None

    @model_validator(mode="after")
    def _ordered(self) -> ShapeSpec:
        if (self.min is None) != (self.max is None):
            raise ValueError("a dynamic shape has both min and max; a fixed one has neither")
        low, high = self.min or self.opt, self.max or self.opt
        triples = zip(low.as_tuple(), self.opt.as_tuple(), high.as_tuple(), strict=True)
        if not all(a <= b <= c for a, b, c in triples):
            raise ValueError(f"min {low} <= opt {self.opt} <= max {high} does not hold")
        if {low.c, high.c} != {3}:
            raise ValueError("detectors take images of 3 channels")
        if min(low.h, low.w) < 32 or max(high.h, high.w) > 16384 or high.n > 1024:
            raise ValueError(
                "height and width are 32 to 16384 pixels, a batch is up to 1024 images"
            )
        return self


class TargetSpec(StrictModel):
    """A kind of node. `accelerator` as Ray names it; `device` overrides the CPU's own name, or
    says which GPU of that accelerator. `driver` is the branch of NVIDIA's driver."""

    accelerator: Text | None = None
    device: Text | None = None
    compute_capability: Capability | None = None
    driver: Driver | None = None

    @model_validator(mode="after")
    def _of_a_gpu(self) -> TargetSpec:
        if self.accelerator is None and (self.compute_capability or self.driver):
            raise ValueError("compute_capability and driver are a GPU's: name its `accelerator`")
        return self


class EnvironmentSpec(StrictModel):
    """Where the steps of an engine run: a Python that is made of `requirements` for a version, or
    is ready (`interpreter`), or a container `image`; see `specs.Environment`."""

    requirements: Annotated[list[Requirement], AfterValidator(distinct)] = []
    python: PythonVersion | None = None
    interpreter: Text | None = None
    image: Text | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> EnvironmentSpec:
        made = bool(self.requirements or self.python)
        if made + (self.interpreter is not None) + (self.image is not None) != 1:
            raise ValueError(
                "give either `requirements` and perhaps `python`, or `interpreter`, or `image`"
            )
        return self


class ToleranceSpec(StrictModel):
    """How far an engine may be from PyTorch; see `specs.Tolerance` for each field."""

    min_score: Annotated[Finite, Field(ge=0, le=1)] = Tolerance.min_score
    min_iou: Annotated[Finite, Field(ge=0, le=1)] = Tolerance.min_iou
    min_matched_fraction: Annotated[Finite, Field(ge=0, le=1)] = Tolerance.min_matched_fraction
    max_score_diff: Annotated[Finite, Field(ge=0)] = Tolerance.max_score_diff
    max_box_diff_px: Annotated[Finite, Field(ge=0)] = Tolerance.max_box_diff_px
    min_mask_iou: Annotated[Finite, Field(ge=0, le=1)] = Tolerance.min_mask_iou
    max_rel_diff: Annotated[Finite, Field(ge=0)] = Tolerance.max_rel_diff
    per_box: bool = Tolerance.per_box


_REDUCED: dict[str, dict[str, Any]] = {
    "fp16": {"min_matched_fraction": 0.95, "max_score_diff": 0.02, "max_rel_diff": 0.02},
    "bf16": {"min_matched_fraction": 0.8, "max_score_diff": 0.08, "max_rel_diff": 0.2},
    "int8": {"min_matched_fraction": 0.6, "max_score_diff": 0.15, "max_rel_diff": 0.5},
}
_REDUCED["fp16"] |= {"max_box_diff_px": 2.0, "per_box": True}
_REDUCED["bf16"] |= {"max_box_diff_px": 6.0, "min_iou": 0.8, "min_mask_iou": 0.8, "per_box": True}
_REDUCED["int8"] |= {"max_box_diff_px": 10.0, "min_iou": 0.7, "min_mask_iou": 0.7, "per_box": True}


class VerifySpec(ToleranceSpec):
    """When an engine counts as the same detector. It is read when results are made: another
    tolerance runs nothing again. Only `images`, how many are compared, is in keys.

    Fields here hold for every precision, those in `precisions` for one; what is set in neither
    has a default by precision."""

    images: Annotated[Whole, Field(ge=1, le=100_000)] = 16
    precisions: dict[Precision, ToleranceSpec] = {}

    def of(self, precision: str) -> Tolerance:
        """Return the tolerance for engines of this precision."""
        own = self.precisions.get(precision)
        common = self.model_dump(include=self.model_fields_set & ToleranceSpec.model_fields.keys())
        special = own.model_dump(include=own.model_fields_set) if own else {}
        return Tolerance(**{**_REDUCED.get(precision, {}), **common, **special})


class MlflowSpec(StrictModel):
    """What MLflow keeps beside figures. artifacts: ONNX files of up to 50 MiB, too."""

    artifacts: bool = False


class LimitsSpec(StrictModel):
    """The limits of a step: its time by stage, and the memory of its processes together. What is
    not set has a default (`engine.workers.limits`). They are in no key: a step that has reached one
    is tried again when it is raised.

    stages: those of other packages."""

    check: Duration | None = None
    prepare: Duration | None = None
    reference: Duration | None = None
    export: Duration | None = None
    convert: Duration | None = None
    build: Duration | None = None
    verify: Duration | None = None
    evaluate: Duration | None = None
    measure: Duration | None = None
    compare: Duration | None = None
    memory: Bytes | None = None
    stages: dict[Text, Duration] = {}

    @property
    def seconds(self) -> dict[str, float]:
        """The times that are set, by stage."""
        own = {name: value for name, value in self if name not in ("memory", "stages")}
        return {**{name: value for name, value in own.items() if value is not None}, **self.stages}


_CPU = TargetSpec.model_construct()


class MatrixSpec(StrictModel):
    """One matrix file. Built when it is first used: other packages' parts are then loaded.

    Its defaults are constructed without validation, for which pydantic would first build the model
    of each.
    """

    model_config = ConfigDict(defer_build=True)

    name: Name
    models: Annotated[dict[Name, AnyModelSpec], Field(min_length=1)]
    opsets: axis(Opset) = [17]  # type: ignore[valid-type]
    shapes: Annotated[dict[Name, ShapeSpec], Field(min_length=1)]
    postprocess: axis(Postprocess) = ["graph"]  # type: ignore[valid-type]
    precisions: axis(Precision) = ["fp32"]  # type: ignore[valid-type]
    workspaces: axis(Bytes) = [1 << 30]  # type: ignore[valid-type]
    runtimes: axis(RuntimeName)  # type: ignore[valid-type]
    environments: dict[Name, EnvironmentSpec] = {}
    targets: Annotated[dict[Name, TargetSpec], Field(min_length=1)] = {"cpu": _CPU}
    dataset: DatasetSpec
    simplify: bool = False
    calibration: CalibrationSpec | None = None
    int8: Annotated[
        Int8Spec, BeforeValidator(_auto, json_schema_input_type=Int8Spec | Literal["auto"])
    ] = Int8Spec.model_construct()
    keep_fp32: Annotated[list[Text], AfterValidator(distinct)] = []
    runtime_options: dict[RuntimeName, Options] = {}
    exclude: Annotated[list[SelectionSpec], Field(max_length=500)] = []
    include: Annotated[list[SelectionSpec], Field(max_length=500)] = []
    verify: VerifySpec = VerifySpec.model_construct()
    measure: MeasureSpec = MeasureSpec.model_construct()
    compare: Annotated[
        CompareSpec | None,
        BeforeValidator(default_or_none, json_schema_input_type=CompareSpec | bool | None),
    ] = CompareSpec.model_construct()
    racing: Annotated[
        RacingSpec | None,
        BeforeValidator(default_or_none, json_schema_input_type=RacingSpec | bool | None),
    ] = None
    limits: LimitsSpec = LimitsSpec.model_construct()
    mlflow: MlflowSpec = MlflowSpec.model_construct()
    results: Text | None = None
    folder: Text | None = None

    def options_of(self, runtime: str) -> dict[str, Any]:
        """Return the options of a cell's runtime: those of `openvino@2025.2` replace those of
        `openvino`."""
        common = self.runtime_options.get(runtime.partition("@")[0], {})
        return {**common, **self.runtime_options.get(runtime, {})}
