"""What a matrix that says no more than it must stands for."""

from __future__ import annotations

from typing import Any

import pytest

from farm.config import models, schema
from farm.config.schema import MatrixSpec

AXES = dict.fromkeys(
    ("opsets", "shapes", "postprocess", "precisions", "workspaces", "runtimes", "targets")
)
OF_ANY_MODEL = {**AXES, "simplify": None, "keep_fp32": None}
PREPROCESS = {
    "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "to_rgb": True, "keep_ratio": True,
    "pad": None, "pad_value": 0.0,
}  # fmt: skip
OF_OWN_FORM = {
    **OF_ANY_MODEL, "outputs": "detections", "classes": ["x"], "clip_boxes": True,
    "preprocess": PREPROCESS,
}  # fmt: skip

MODELS: list[tuple[type[models.ModelSpec], dict[str, Any], dict[str, Any]]] = [
    (
        models.MmdetSpec, {"config": "c", "checkpoint": "p"},
        {**OF_ANY_MODEL, "source": "mmdet", "cfg_options": {}, "allow_pickle": False, "labels": []},
    ),
    (models.OnnxSpec, {"source": "onnx", "file": "f", "classes": ["x"]}, OF_OWN_FORM),
    (
        models.ModuleSpec, {"source": "module", "function": "a:b", "classes": ["x"]},
        {**OF_OWN_FORM, "checkpoint": None, "options": {}, "allow_pickle": False},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "said", "expected"), MODELS)
def test_a_model_has_these_defaults(
    kind: type[models.ModelSpec], said: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert kind.model_validate(said).model_dump() == {**said, **expected}


def test_a_matrix_has_these_defaults() -> None:
    said: dict[str, Any] = {
        "name": "m", "models": {"a": {"config": "c", "checkpoint": "p"}}, "runtimes": ["null"],
        "shapes": {"s": {"opt": "64x64"}}, "dataset": {"type": "synthetic"},
    }  # fmt: skip
    found = MatrixSpec.model_validate(said)
    apart = {"int8", "verify", "measure", "compare", "limits", "mlflow"}  # each has its own
    assert found.model_dump(exclude={*said, *apart}) == {
        "opsets": [17], "postprocess": ["graph"], "precisions": ["fp32"], "workspaces": [1 << 30],
        "environments": {}, "simplify": False, "calibration": None, "keep_fp32": [],
        "runtime_options": {}, "exclude": [], "include": [], "racing": None, "results": None,
        "folder": None,
        "targets": {"cpu": dict.fromkeys(schema.TargetSpec.model_fields)},
    }  # fmt: skip
    for name in apart:
        kind = type(getattr(found, name))
        assert getattr(found, name) == kind(), name
