"""The schema's defaults, which documents and stored results rest on, and its bounds."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from farm.catalog import RUNTIMES
from farm.config import measuring, models, quantising, schema
from farm.config.measuring import MeasureSpec
from farm.config.schema import ShapeSpec, VerifySpec
from farm.datasets.types import SyntheticSpec
from farm.options import DatasetOptions

DEFAULTS: dict[Any, dict[str, Any]] = {
    SyntheticSpec: {"type": "synthetic", "count": 64, "seed": 7, "size": 160},
    quantising.CalibrationSpec: {"images": "i", "annotations": None, "limit": 64},
    quantising.AutoSpec: {"max_ap_drop": 1.0, "min_score": 0.3, "images": 4},
    quantising.Int8Spec: {"method": "percentile", "percentile": 99.99, "auto": None},
    measuring.MeasureSpec: {
        "seconds": 0.6, "max_seconds": None, "warmup_seconds": 0.2, "min_samples": 64,
        "threads": None, "throughput": True, "server": None,
    },
    measuring.ServerSpec: {"p99_ms": 50.0, "max_seconds": 600.0},
    measuring.CompareSpec: {"seconds": 4.0, "margin": 0.02, "error": 0.05},
    measuring.RacingSpec: {"max_ap_drop": 1.0},
    schema.MlflowSpec: {"artifacts": False},
    schema.VerifySpec: {
        "min_score": 0.3, "min_iou": 0.9, "min_matched_fraction": 0.99, "max_score_diff": 1e-3,
        "max_box_diff_px": 1.0, "min_mask_iou": 0.9, "max_rel_diff": 1e-3, "per_box": False,
        "images": 16, "precisions": {},
    },
}  # fmt: skip
NEEDED: dict[Any, dict[str, Any]] = {
    SyntheticSpec: {"type": "synthetic"},
    quantising.CalibrationSpec: {"images": "i"},
    measuring.ServerSpec: {"p99_ms": 50},
}


@pytest.mark.parametrize("kind", DEFAULTS, ids=lambda kind: kind.__name__)
def test_what_is_not_said_has_its_default(kind: Any) -> None:
    assert kind(**NEEDED.get(kind, {})).model_dump() == DEFAULTS[kind]


LOWER = {
    "fp32": {},
    "fp16": {"min_matched_fraction": 0.95, "max_score_diff": 0.02, "max_rel_diff": 0.02,
             "max_box_diff_px": 2.0, "per_box": True},
    "bf16": {"min_matched_fraction": 0.8, "max_score_diff": 0.08, "max_rel_diff": 0.2,
             "max_box_diff_px": 6.0, "min_iou": 0.8, "min_mask_iou": 0.8, "per_box": True},
    "int8": {"min_matched_fraction": 0.6, "max_score_diff": 0.15, "max_rel_diff": 0.5,
             "max_box_diff_px": 10.0, "min_iou": 0.7, "min_mask_iou": 0.7, "per_box": True},
}  # fmt: skip


@pytest.mark.parametrize("precision", LOWER)
def test_each_precision_has_its_tolerances(precision: str) -> None:
    base = {key: DEFAULTS[VerifySpec][key] for key in schema.ToleranceSpec.model_fields}
    base |= {"min_mean_mask_iou": 0.0}
    assert asdict(VerifySpec().of(precision)) == base | LOWER[precision]
    own = VerifySpec(
        max_score_diff=0.5, images=3,
        precisions={"int8": schema.ToleranceSpec(max_score_diff=0.25, per_box=False)},
    ).of(precision)  # fmt: skip
    said = {"max_score_diff": 0.5} | (
        {"max_score_diff": 0.25, "per_box": False} if precision == "int8" else {}
    )
    assert asdict(own) == base | LOWER[precision] | said


def messages(kind: Any, value: Any) -> str:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(kind).validate_python(value)
    return str(error.value)


SHAPES = {
    "1x1x64x64": "detectors take images of 3 channels",
    "1x3x31x64": "height and width are 32 to 16384 pixels",
    "1x3x64x31": "height and width are 32 to 16384 pixels",
    "1x3x16385x64": "height and width are 32 to 16384 pixels",
    "1x3x64x16385": "height and width are 32 to 16384 pixels",
    "1025x3x64x64": "a batch is up to 1024 images",
}


@pytest.mark.parametrize("opt", SHAPES)
def test_a_shape_beyond_its_bounds_is_refused(opt: str) -> None:
    assert SHAPES[opt] in messages(ShapeSpec, {"opt": opt})


@pytest.mark.parametrize("opt", ["1x3x32x32", "1024x3x16384x16384", "1x3x32x16384"])
def test_a_shape_at_its_bounds_is_taken(opt: str) -> None:
    assert str(TypeAdapter(ShapeSpec).validate_python({"opt": opt}).opt) == opt


def test_bounds_of_a_dynamic_shape_are_in_order_and_both_there() -> None:
    low, opt, high = "1x3x64x64", "2x3x96x96", "4x3x128x128"
    found = TypeAdapter(ShapeSpec).validate_python({"min": low, "opt": opt, "max": high})
    assert (str(found.min), str(found.opt), str(found.max)) == (low, opt, high)
    assert TypeAdapter(ShapeSpec).validate_python({"min": opt, "opt": opt, "max": opt}).min
    said = "a dynamic shape has both min and max; a fixed one has neither"
    assert said in messages(ShapeSpec, {"min": low, "opt": opt})
    assert said in messages(ShapeSpec, {"max": high, "opt": opt})
    for wrong in ("8x3x96x96", "2x3x32x96", "2x3x96x160"):
        assert f"<= opt {wrong} <=" in messages(ShapeSpec, {"min": low, "opt": wrong, "max": high})


def test_measuring_ends_no_earlier_than_it_should_last() -> None:
    assert MeasureSpec(seconds=4, max_seconds=4).most_seconds == 4
    assert MeasureSpec(seconds=4).most_seconds == 40 and MeasureSpec().most_seconds == 6
    assert MeasureSpec(seconds=3000).most_seconds == 3600
    assert "max_seconds 3 is less than seconds" in messages(
        MeasureSpec, {"seconds": 4, "max_seconds": 3}
    )


def test_throughput_is_a_switch_or_seconds() -> None:
    read = {True: None, "true": None, False: 0.0, "false": 0.0, 2: 2.0, "0.5": 0.5, 3600: 3600.0}
    for said, seconds in read.items():
        found = TypeAdapter(MeasureSpec).validate_python({"throughput": said})
        assert found.throughput_seconds == seconds, said
    assert MeasureSpec().throughput_seconds is None
    for wrong in ("much", 0, -1, 3601, float("nan"), None, [1], ""):
        expected = "expected true, false, or seconds from over 0 to 3600"
        assert expected in messages(MeasureSpec, {"throughput": wrong})


def test_a_server_has_a_bound() -> None:
    found = TypeAdapter(MeasureSpec).validate_python({"server": {"p99_ms": "20"}}).server
    assert found is not None and found.p99_ms == 20
    for wrong in ({}, {"p99_ms": 0}, {"p99_ms": True}, {"p99_ms": 9, "max_seconds": 4000}, True):
        assert messages(MeasureSpec, {"server": wrong}), wrong


def test_int8_auto_may_be_said_in_short() -> None:
    kind = schema.MatrixSpec.model_fields["int8"]
    read = TypeAdapter(kind.rebuild_annotation()).validate_python
    assert read("auto").auto == quantising.AutoSpec() == read({"auto": True}).auto
    assert read({"auto": False}).auto is None and read({}).auto is None
    assert read({"auto": {"images": 2}}).auto.images == 2


def test_racing_is_off_and_may_be_said_in_short() -> None:
    field = schema.MatrixSpec.model_fields["racing"]
    read = TypeAdapter(field.rebuild_annotation()).validate_python
    assert field.default is None is read(False)
    assert read(True) == read({}) == measuring.RacingSpec(max_ap_drop=1.0)
    assert read({"max_ap_drop": 0}).max_ap_drop == 0
    for wrong in (3, "on", {"max_ap_drop": 101}, {"max_ap_drop": None}):
        with pytest.raises(ValidationError):
            read(wrong)


def test_what_is_of_a_gpu_needs_its_accelerator() -> None:
    for key, value in (("compute_capability", "8.9"), ("driver", "580")):
        said = messages(schema.TargetSpec, {key: value})
        assert "compute_capability and driver are a GPU's" in said
        spec = TypeAdapter(schema.TargetSpec).validate_python({"accelerator": "L4", key: value})
        assert getattr(spec, key) == value


def numbers(model: type[BaseModel]) -> list[tuple[type[BaseModel], str, Any]]:
    """The fields of a model that hold numbers, each with what true would be for it."""
    found = []
    for name, field in model.model_fields.items():
        text = str(field.rebuild_annotation()).replace("typing.", "")
        if re.search(r"\b(int|float)\b", text) and "bool" not in text:
            for value in (True, [True], [True, 1, 1], {"fp16": True}):
                found.append((model, name, value))
    return found


MODELS = [
    *(one for one in vars(schema).values() if isinstance(one, type) and issubclass(one, BaseModel)),
    *models.model_specs().values(),
    *models.dataset_specs().values(),
    models.PreprocessSpec,
    *(one.options for one in RUNTIMES.values() if one.options),
]


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [case for model in dict.fromkeys(MODELS) for case in numbers(model)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_no_number_of_a_matrix_is_true(model: Any, field: str, value: Any) -> None:
    """pydantic takes true for 1: in every field, in lists and in tuples, it is refused."""
    with pytest.raises(ValidationError) as error:
        model.model_validate({field: value})
    wrong = [one for one in error.value.errors() if one["loc"][:1] == (field,)]
    assert wrong, f"{field}: {value} is taken"


def test_no_text_of_a_matrix_is_a_number() -> None:
    """Capabilities and drivers are: YAML reads 8.9 as a number, and true is neither."""
    for model in dict.fromkeys(MODELS):
        for name, field in model.model_fields.items():
            if field.annotation in (str, str | None) and name not in (
                "source", "type", "compute_capability", "driver",
            ):  # fmt: skip
                with pytest.raises(ValidationError) as error:
                    model.model_validate({name: 1})
                assert any(one["loc"] == (name,) for one in error.value.errors()), (model, name)
    target = schema.TargetSpec(accelerator="L4", compute_capability=8.9, driver=580)
    assert (target.compute_capability, target.driver) == ("8.9", "580")
    for key in ("compute_capability", "driver"):
        said = messages(schema.TargetSpec, {"accelerator": "L4", key: True})
        assert "should be a valid string" in said


class OwnOptions(DatasetOptions):
    """As another package writes it, with types of Python alone."""

    many: int | None = None
    share: float = 1.0
    also: bool | int = False


def test_true_is_no_number_in_another_packages_entry_either() -> None:
    for field in ("limit", "many", "share"):
        said = messages(OwnOptions, {"type": "own", field: True})
        assert "a number is expected, not true" in said
    assert OwnOptions(type="own", also=True, many="3").many == 3
