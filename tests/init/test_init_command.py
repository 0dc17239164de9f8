"""`farm init` as its users meet it: from files to a matrix that can be planned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import PROJECT, Tool

from farm.config.loader import load_matrix
from farm.datasets import synthetic
from farm.plan import make_plan

pytestmark = pytest.mark.slow

DEMO = PROJECT / "matrices" / "demo"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's folder: a config, a checkpoint, images with annotations."""
    for name in ("onestage.py", "onestage.pth"):
        shutil.copy(DEMO / name, tmp_path)
    synthetic.draw(tmp_path / "data", 3, 7, 160)
    return tmp_path


def test_a_first_matrix_passes_plan_and_is_never_replaced(own: Path, tool: Tool) -> None:
    words = ("init", "onestage.py", "onestage.pth", "--data", "data")
    done = tool(*words)
    assert done.code == 0, done.err
    assert (
        done.out.startswith("Wrote matrices/own.yaml: ")
        and "farm run matrices/own.yaml" in done.out
    )
    path = own / "matrices" / "own.yaml"
    matrix = load_matrix(path)
    plan = make_plan(matrix)
    assert not plan.missing and len(plan.cells) >= 4
    assert {cell.shape for cell in matrix.cells} == {"fixed", "dynamic"}
    assert {cell.runtime for cell in matrix.cells} >= {"torch", "onnxruntime", "openvino"}
    assert "160x160" in path.read_text() and "config: ../onestage.py" in path.read_text()
    before = path.read_text()
    again = tool(*words)
    assert again.code == 2 and "matrices/own.yaml exists, and is not replaced" in again.err
    path.write_text("mine")
    assert tool(*words, "--force").code == 0 and path.read_text() == before


def test_the_configs_own_data_is_used_where_none_is_named(own: Path, tool: Tool) -> None:
    with (own / "onestage.py").open("a") as file:
        file.write(f"data['test'].update(data_root='{own}/data/')\n")
    done = tool("init", "onestage.py", "onestage.pth", "-o", "first.yaml")
    assert done.code == 0, done.err
    assert load_matrix(own / "first.yaml").spec.dataset.type == "config"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("onestage.pth", "onestage.py", "--data", "data"), "is no config; expected CONFIG, then"),
        (("no.py", "onestage.pth", "--data", "data"), "config 'no.py' is neither a file"),
        (("onestage.py", "no.pth", "--data", "data"), "no.pth does not exist"),
        (("onestage.py", "onestage.pth", "--data", "dta"), "expected an annotation file in COCO's"),
        (("onestage.py", "onestage.py", "--data", "data"), "onestage.py: "),
        (("onestage.py", "onestage.pth", "--images", "data"), "the images of --data are"),
        (("onestage.py", "onestage.pth"), "annotation file of its test data"),
        (("onestage.py", "onestage.pth", "--data", "data", "-o", "a.txt"), "that ends in .yaml"),
        (("onestage.py", "onestage.pth", "--data", "other"), "class 'circle' is not among"),
    ],
)  # fmt: skip
def test_a_wrong_input_is_exit_code_2_and_writes_nothing(
    words: tuple[str, ...], message: str, own: Path, tool: Tool
) -> None:
    shutil.copytree(own / "data", own / "other")
    file = own / "other" / "annotations.json"
    file.write_text(file.read_text().replace("circle", "disc"))
    done = tool("init", *words)
    assert done.code == 2 and message in done.err, done.err
    assert not list(own.rglob("*.yaml")) and not list(own.rglob("*.part"))
