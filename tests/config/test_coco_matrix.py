"""matrices/coco.yaml: complete, and a plan of thousands of cells that explains itself."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, needs_mmdet

from farm import specs
from farm.cli.plan import as_text
from farm.config.loader import Matrix, load_matrix
from farm.plan import Plan, make_plan
from farm.store import Store

COCO = PROJECT / "matrices" / "coco.yaml"
MODELS, OPSETS, PROFILES, WORKSPACES, GPUS = 12, 4, 3, 4, 4


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CHECKPOINTS", "COCO"):
            patch.delenv(name, raising=False)
        return load_matrix(COCO)


@pytest.fixture(scope="module")
def plan(matrix: Matrix) -> Plan:
    return make_plan(matrix)


@pytest.fixture(scope="module")
def checked(matrix: Matrix) -> Plan:
    """As once all models are checked, and had one test pipeline."""
    return make_plan(matrix, lambda key: specs.ModelFacts(("person",), False, "one pipeline"))


def test_the_matrix_is_the_product_of_its_axes(matrix: Matrix) -> None:
    spec = matrix.spec
    assert (len(spec.models), len(spec.opsets), len(spec.workspaces)) == (12, 4, 4)
    assert {len(model.shapes or ()) for model in spec.models.values()} == {PROFILES}
    assert sum(target.accelerator is not None for target in spec.targets.values()) == GPUS


def test_every_cell_is_there_once(matrix: Matrix) -> None:
    found = Counter(cell.runtime for cell in matrix.cells)
    files = MODELS * PROFILES * (2 * OPSETS + OPSETS - 1)  # fp32, fp16, and int8 but for opset 11
    assert found["tensorrt"] == files * WORKSPACES * GPUS
    assert found["onnxruntime_cuda"] == MODELS * PROFILES * 2 * OPSETS * GPUS  # no int8
    assert found["onnxruntime"] == files
    at_one = MODELS * PROFILES * 3 * GPUS  # at one opset and one workspace
    assert found["onnxruntime_tensorrt"] == at_one
    assert len(set(matrix.cells)) == len(matrix.cells) == found.total()


def test_what_cells_share_is_done_once(plan: Plan, checked: Plan) -> None:
    assert len(checked.of_stage("export")) == MODELS * OPSETS * PROFILES
    assert len(checked.of_stage("convert")) == MODELS * PROFILES * (2 * OPSETS - 1)
    assert len(checked.of_stage("check")) == MODELS
    # Images are prepared one by one: the three profiles of ssd300 want the same.
    sizes = 3 + 1 + 3 + 3
    assert len(checked.of_stage("prepare")) == 2 * sizes  # to be evaluated, and to calibrate int8
    assert len(checked.of_stage("reference")) == 3 * 11 + 1
    assert len(plan.of_stage("prepare")) == 2 * (3 * 11 + 1)
    assert len(checked.of_stage("build")) == len(checked.cells)


def test_each_gpu_is_asked_for_by_its_steps_alone(checked: Plan) -> None:
    for step in checked.of_stage("measure"):
        target = step.inputs.target  # type: ignore[union-attr]
        assert step.needs.accelerator == target.accelerator and step.needs.exclusive
        assert (target.accelerator is None) == (target.driver is None)
    capabilities = {
        step.inputs.target.compute_capability  # type: ignore[union-attr]
        for step in checked.of_stage("build")
    }
    assert capabilities == {None, "7.5", "8.6", "8.9", "9.0"}


def test_nothing_is_refused(plan: Plan, checked: Plan) -> None:
    assert not [one.refused for one in (*plan.cells, *checked.cells) if one.refused]


@pytest.mark.slow
def test_nothing_is_refused_of_what_the_models_themselves_tell(plan: Plan) -> None:
    from farm.single.metadata import facts_without_weights

    facts = {}
    for step in plan.of_stage("check"):
        assert isinstance(step.inputs, specs.CheckInputs)
        assert isinstance(step.inputs.model, specs.Model)
        facts[step.key] = facts_without_weights(step.inputs.model)
    told = make_plan(load_matrix(COCO), facts.get)
    assert not told.unchecked and len(told.cells) == len(plan.cells)
    assert {one.refused for one in told.cells} == {None}


def published() -> dict[str, str]:
    """The checkpoint of each config, as mmdet's own model index names it."""
    spec = importlib.util.find_spec("mmdet")
    assert spec and spec.submodule_search_locations
    configs = Path(spec.submodule_search_locations[0]) / ".mim" / "configs"
    found = {}
    for path in configs.glob("*/metafile.yml"):
        index = yaml.safe_load(path.read_text())
        for model in index["Models"] if isinstance(index, dict) else index:
            weights = model.get("Weights")
            found[Path(model["Config"]).stem] = Path(weights).name if weights else ""
    return found


@needs_mmdet
def test_checkpoints_are_those_of_the_model_zoo(matrix: Matrix) -> None:
    # The index has no weights for the 4x4 config: it is the other one with larger batches.
    same = {"fcos_r50_caffe_fpn_gn-head_4x4_1x_coco": "fcos_r50_caffe_fpn_gn-head_1x_coco"}
    known = published()
    for model in matrix.spec.models.values():
        config = Path(model.config).stem  # type: ignore[union-attr]
        assert Path(model.checkpoint or "").name == known[same.get(config, config)]  # type: ignore[union-attr]


def test_profiles_are_sizes_that_the_configs_pad_to(matrix: Matrix) -> None:
    for name, shape in matrix.spec.shapes.items():
        for dims in filter(None, (shape.min, shape.opt, shape.max)):
            for extent in (dims.h, dims.w):
                if name.startswith("corner"):
                    assert extent | 127 == extent
                elif not name.startswith("ssd"):
                    assert extent % 32 == 0


@needs_mmdet
def test_a_plan_of_thousands_of_cells_explains_itself(plan: Plan, tmp_path: Path) -> None:
    lines = as_text(plan, Store(tmp_path)).splitlines()
    assert lines[0] == f"Matrix coco: {len(plan.cells)} cells, {len(plan.steps)} distinct steps"
    assert len(lines) < 70
    assert all(len(line) <= 80 or "/" in line for line in lines)
    assert ["export", str(len(plan.cells)), "144", "0"] in [line.split() for line in lines]
    assert next(line for line in lines if line.startswith("cells ")).split() == [
        "cells", "cpu", "t4", "a10g", "l4", "h200",
    ]  # fmt: skip
    assert "workspaces    256MiB, 1GiB, 4GiB, 8GiB" in lines


@needs_mmdet
def test_missing_files_are_named_once_by_their_folder(plan: Plan, tmp_path: Path) -> None:
    text = as_text(plan, Store(tmp_path))
    missing = text.partition("Missing, and needed by `farm run`:\n")[2]
    assert len(plan.missing) == MODELS + 4
    assert "12 checkpoints, each of which does not exist, in " in " ".join(missing.split())
    assert missing.count(str(PROJECT / "checkpoints")) == 1
    for error in plan.missing:
        assert error.where.startswith(str(COCO))
    assert "image folder" in missing and "annotation file" in missing
    assert missing.count(".pth") == MODELS


REFUSING = """\
name: refusing
models:
  a: {config: a.py, checkpoint: a.pth}
  b: {config: a.py, checkpoint: a.pth}
opsets: [11, 13]
shapes: {s: {opt: 160x160}}
runtimes: [tensorrt_rtx]
targets: {l4: {accelerator: L4, driver: 580}, h200: {accelerator: H200, driver: 580}}
dataset: {type: synthetic}
"""


def test_refused_cells_are_told_by_their_reason(tmp_path: Path) -> None:
    for name in ("a.py", "a.pth"):
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "m.yaml").write_text(REFUSING)
    text = as_text(make_plan(load_matrix(tmp_path / "m.yaml")), Store(tmp_path))
    refused = text.partition("refused: ")[2].partition("\n\n")[0]
    assert refused.startswith("4 cells, such as a.op11.s.fp32.tensorrt_rtx.ws1GiB.h200:")
    assert "(H200) has 9.0" in " ".join(refused.split())
    assert text.count("refused: ") == 1
