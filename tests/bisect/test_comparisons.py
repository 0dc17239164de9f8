"""A cell's engine against its fp32 file: what is compared, searched and said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import planted
import pytest

from farm.bisect import cells, report
from farm.bisect.cells import BisectedCell
from farm.bisect.command import bisect
from farm.bisect.comparisons import Choices, Comparisons
from farm.bisect.engines import Here
from farm.bisect.releases import Versions
from farm.detections.convert import network_meta
from farm.errors import InputError
from farm.specs import Cell, Dims, EngineOptions, File, OnnxModel, Shape, Target, Tolerance
from farm.stages.inference import Decoding

SEED = 0  # of a weight of /bbox_head/reg/Conv
FAULTY = "/bbox_head/reg/Conv"
CHOICES = Choices(None, None, 1 << 20)


@pytest.fixture
def cell(tmp_path: Path) -> BisectedCell:
    """A cell whose engine is built of a file with a fault."""
    model = planted.detector(SEED)
    onnx.save(model, str(tmp_path / "exported.onnx"))
    onnx.save(planted.plant(model, "weight", SEED).model, str(tmp_path / "file.onnx"))
    size = Dims(1, 3, planted.SIZE, planted.SIZE)
    random = np.random.default_rng(SEED)
    images = [random.normal(size=size.as_tuple()).astype(np.float32) for _ in range(2)]
    file = File(str(tmp_path / "exported.onnx"), "")
    return BisectedCell(
        cell=Cell("drawn", 17, "fixed", "graph", "fp32", "onnxruntime", None, "cpu"),
        model=OnnxModel("drawn", file),
        postprocess="graph",
        exported=tmp_path / "exported.onnx",
        file=tmp_path / "file.onnx",
        options=EngineOptions("onnxruntime", "fp32", Shape("fixed", size, size, size)),
        environment=None,
        tolerance=Tolerance(),
        fp32_tolerance=Tolerance(),
        batches=[(one, [network_meta(f"{i}.png", size.h, size.w)]) for i, one in enumerate(images)],
        decoding=Decoding(planted.CLASSES),
    )


def engine_report(cell: BisectedCell, choices: Choices = CHOICES) -> report.Report:
    return Comparisons(cell, choices).engine(Here(cell.options, 1), "the engine")


def test_boxes_that_differ_are_searched_for_the_node(cell: BisectedCell) -> None:
    found = engine_report(cell)
    assert found.leaves and found.differs and found.tolerance == 1e-3
    text = report.as_text(found)
    assert "module      bbox_head.reg\n" in text and f"node        {FAULTY} (Conv)\n" in text
    assert max(map(len, text.splitlines())) <= 80
    said = report.conclusion([found]).replace("\n", " ")
    start = f"the engine leaves the fp32 file at {FAULTY} (Conv, module bbox_head.reg): its output "
    assert said.lower().startswith(start.lower()) and said.endswith("."), said


def test_boxes_that_agree_are_searched_only_if_asked(cell: BisectedCell) -> None:
    same = replace(cell, file=cell.exported)
    found = engine_report(same)
    assert not found.leaves and found.located is None
    assert report.conclusion([found]) == "Nothing leaves the tolerance."
    asked = engine_report(same, replace(CHOICES, tolerance=1e-3))
    assert not asked.leaves and asked.located is not None and asked.located.found is None


def test_boxes_that_differ_with_no_value_beyond_the_tolerance(cell: BisectedCell) -> None:
    found = engine_report(cell, replace(CHOICES, tolerance=0.9))
    assert found.leaves and found.located is not None and found.located.found is None
    assert found.located.worst and found.located.worst.value == f"{FAULTY}_output_0"
    assert "a lower --tolerance says where" in report.conclusion([found]).replace("\n", " ")


def test_raw_outputs_are_compared_by_their_largest_value(cell: BisectedCell) -> None:
    found = engine_report(replace(cell, decoding=None, postprocess="none"))
    assert found.differs and found.differs.startswith("output dets differs by")
    assert found.located and found.located.found and FAULTY in report.conclusion([found])


def test_the_command_says_all_at_the_end(
    cell: BisectedCell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bisect(cell, CHOICES, None, as_json=False) == 1
    assert FAULTY in capsys.readouterr().out.rpartition("\n\n")[2]
    assert bisect(cell, CHOICES, None, as_json=True) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["cell"] == "drawn.op17.fixed.fp32.onnxruntime.cpu"
    assert (found["found"]["node"], found["found"]["module"]) == (FAULTY, "bbox_head.reg")
    assert found["found"]["difference"] == pytest.approx(found["found"]["by_itself"], rel=1e-3)
    assert bisect(replace(cell, file=cell.exported), CHOICES, None, as_json=False) == 0
    assert capsys.readouterr().out.endswith("\n\nNothing leaves the tolerance.\n")


def test_what_a_cell_cannot_be_compared_with_is_wrong_input(cell: BisectedCell) -> None:
    with pytest.raises(InputError, match="is a ready ONNX file, without PyTorch"):
        bisect(cell, replace(CHOICES, against="pytorch"), None, as_json=False)
    for text, said in [
        ("openvino==2025.2", "the cell's runtime is onnxruntime, and not openvino"),
        ("onnxruntime==new", "new is no version"),
    ]:
        with pytest.raises(InputError, match=said):
            bisect(cell, CHOICES, Versions.parse(text), as_json=False)


def test_a_cell_of_a_gpu_that_is_not_here_is_wrong_input() -> None:
    with pytest.raises(InputError, match="its accelerator Abacus is not on this machine"):
        cells._require_here("x.abacus", Target("abacus", "NVIDIA Abacus", accelerator="Abacus"))


@pytest.mark.usefixtures("index")
def test_a_release_that_cannot_be_had_is_said_and_left_out(
    cell: BisectedCell, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = Versions.parse("onnxruntime==1.20, 1.22")
    assert bisect(cell, CHOICES, versions, as_json=False) == 1
    said = capsys.readouterr()
    assert said.out == "None leaves the tolerance; 0 of 2 releases were compared.\n"
    for release in versions.releases:
        start = f"onnxruntime@{release} could not be compared: environment onnxruntime@{release}: "
        assert start in said.err


@pytest.mark.parametrize("text", ["onnxruntime", "==1.20", "onnxruntime==", "onnxruntime==1,,2"])
def test_versions_that_name_no_releases(text: str) -> None:
    with pytest.raises(ValueError, match="names no releases; write openvino=="):
        Versions.parse(text)
