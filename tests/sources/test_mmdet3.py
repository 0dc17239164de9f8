"""Configs of MMDetection 3 are named as such; those of 2.x are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import needs_mmdet

from farm import specs
from farm.errors import InputError
from farm.plan.content import config_files
from farm.plan.content.configs import config_file

CASES = Path(__file__).parents[1] / "cases" / "configs_real"
NAMED = r"this is a config of MMDetection 3 \(.*\); the farm runs MMDetection 2.x"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ((CASES / "mmdet3_scope.py").read_text(), 1),
        ("# lazy\nwith read_base():\n    from .._base_.models.faster_rcnn_r50_fpn import *\n", 2),
        ("from mmengine.config import read_base\n", 1),
        ("x = 1\n_base_ = ['mmdet::_base_/default_runtime.py', './own.py']\n", 2),
    ],
)
def test_planning_names_it_at_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "c.py"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"c\.py:{line}: {NAMED}"):
        config_file(str(path), tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"model": {"type": "YOLOX", "data_preprocessor": {"type": "DetDataPreprocessor"}}},
        {"model": {"type": "mmdet.FasterRCNN"}},
        {"model": {"type": "FCOS"}, "default_scope": "mmdet", "test_dataloader": {}},
        {"test_evaluator": {"type": "CocoMetric"}},
    ],
)
def test_settings_of_3_are_named(config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=NAMED):
        config_files.refuse_values(config, "c.py")


def test_a_config_of_2_may_name_its_scope() -> None:
    model = {"type": "mmdet.FasterRCNN", "backbone": {"type": "mmcls.ConvNeXt"}}
    config_files.refuse_values({"model": model, "data": {"test": {"type": "CocoDataset"}}}, "c.py")


@needs_mmdet
def test_no_config_that_mmdet_2_ships_is_taken_for_one_of_3() -> None:
    import importlib.util

    spec = importlib.util.find_spec("mmdet")
    assert spec and spec.origin
    shipped = sorted((Path(spec.origin).parent / ".mim" / "configs").rglob("*.py"))
    assert len(shipped) > 500
    for path in shipped:
        config_files.refuse_text(path.read_text(), str(path))


@pytest.mark.slow
def test_check_names_what_only_the_merged_config_shows() -> None:
    from farm.sources.mmdet import config

    path = str(CASES / "mmdet3.py")
    model = specs.Model("m", "mmdet", specs.File(path, ""), specs.File("none.pth", ""))
    with pytest.raises(InputError, match=rf"mmdet3\.py: {NAMED}"):
        config.read(model)
