"""The data set that a model's own config names, as the plan has it."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import PROJECT

from farm import specs
from farm.config.loader import load_matrix
from farm.datasets import synthetic
from farm.plan.resolve import ResolvedInputs


def test_the_configs_own_data_set_is_planned_with_the_matrixs_limit(tmp_path: Path) -> None:
    synthetic.draw(tmp_path, count=3, seed=1, size=64)
    own = {
        "type": "coco",
        "images": str(tmp_path / "images"),
        "annotations": str(tmp_path / "annotations.json"),
    }
    matrix = load_matrix(
        PROJECT / "matrices" / "demo.yaml", ["dataset={type: config, limit: 2}", "calibration=null"]
    )
    facts = specs.ModelFacts(("circle",), False, "[]", data=json.dumps(own))
    found = ResolvedInputs(matrix).dataset_of(facts)
    assert isinstance(found, specs.CocoDataset)
    assert (found.images.path, found.annotations.path, found.limit) == (
        own["images"],
        own["annotations"],
        2,
    )
