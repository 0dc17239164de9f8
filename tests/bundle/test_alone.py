"""A bundle in a Python that has numpy, OpenCV and the runtimes alone: the row's AP, to 1e-6."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from coco_ap import average_precision
from conftest import PROJECT, Farm, made_once, needs_packages, skip_but_in_ci

from farm.datasets import synthetic
from farm.environments import EnvironmentFailed, uv

pytestmark = [pytest.mark.slow, needs_packages]

CELLS = (
    "onestage.op11.fixed.fp32.onnxruntime.cpu",
    "onestage.op17.dynamic.fp32.openvino.cpu",
    "twostage.op17.fixed.fp32.openvino.cpu",
    "twostage.op17.dynamic.fp32.onnxruntime.cpu",
)


@pytest.fixture(scope="module")
def bundles(farm: Farm, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    for cell in CELLS:
        done = farm("bundle", cell, folder / cell, "--results", demo)
        assert done.returncode == 0, done.stdout + done.stderr
    return {cell: folder / cell for cell in CELLS}


@pytest.fixture(scope="module")
def index() -> None:
    """Skips where no package index answers; whatever fails later is a failure."""
    try:
        uv.run("pip", "compile", "-", "--quiet", stdin="numpy")
    except EnvironmentFailed as error:
        skip_but_in_ci(f"no package index answers: {error}")


@pytest.fixture(scope="module")
def python(bundles: dict[str, Path], common: Path, index: None) -> Path:
    """A Python with what the bundles' requirements.txt name, and nothing else."""
    files = [word for one in bundles.values() for word in ("-r", str(one / "requirements.txt"))]
    return made_python(common / "alone", *files)


def made_python(folder: Path, *needs: str) -> Path:
    """A new environment with what it needs."""

    def make(folder: Path) -> None:
        uv.run("venv", "--quiet", str(folder))
        uv.run("pip", "install", "--quiet", "--python", str(uv.python_of(folder)), *needs)

    return uv.python_of(made_once(folder, make))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of `matrices/demo.yaml`."""
    folder = tmp_path_factory.mktemp("data")
    synthetic.draw(folder, 64, 7, 160)
    return folder


@pytest.fixture(scope="module")
def rows(farm: Farm, demo: Path) -> dict[str, dict[str, Any]]:
    done = farm("leaderboard", "--format", "json", "--results", demo)
    return {row["cell"]: row for row in json.loads(done.stdout)}


@pytest.mark.parametrize("cell", CELLS)
def test_a_bundle_has_the_ap_of_its_row_without_farm_and_pytorch(
    cell: str, bundles: dict[str, Path], python: Path, data: Path,
    rows: dict[str, dict[str, Any]], tmp_path: Path,
) -> None:  # fmt: skip
    output = tmp_path / "found.npz"
    program = PROJECT / "tests" / "bundle" / "outside.py"
    words = [python, "-I", program, bundles[cell], data / "images", output]
    done = subprocess.run(
        [*map(str, words)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("engine/") and not done.stderr
    found = loaded(output)
    truth = data / "annotations.json"
    assert average_precision(truth, found) == pytest.approx(rows[cell]["bbox_mAP"], abs=1e-6)
    if cell.startswith("twostage"):
        mask_ap = average_precision(truth, found, "segm")
        assert mask_ap == pytest.approx(rows[cell]["segm_mAP"], abs=1e-6)


def loaded(path: Path) -> dict[str, SimpleNamespace]:
    """What `outside.py` has written, by the name of the image."""
    found: dict[str, SimpleNamespace] = {}
    for name, values in np.load(path).items():
        image, _, kind = name.partition("/")
        setattr(found.setdefault(image, SimpleNamespace()), kind, values)
    return found


@pytest.mark.parametrize("cell", CELLS[:2])
def test_the_program_of_a_bundle_checks_itself(
    cell: str, bundles: dict[str, Path], python: Path, tmp_path: Path
) -> None:
    words = [str(python), "-I", str(bundles[cell] / "detector.py"), "--check"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "boxes as expected" in done.stdout


def test_openvino_model_api_gives_the_same_boxes(
    bundles: dict[str, Path], common: Path, tmp_path: Path, index: None
) -> None:
    """It rounds boxes to whole pixels, and resizes by OpenVINO in place of OpenCV."""
    bundle = bundles["twostage.op17.fixed.fp32.openvino.cpu"]
    # It needs an older OpenCV than the sweep had.
    pinned = (bundle / "requirements.txt").read_text().splitlines()
    (openvino,) = (line for line in pinned if line.startswith("openvino=="))
    python = made_python(common / "model_api", "openvino-model-api==0.4.7", openvino)
    synthetic.draw(tmp_path, 8, 7, 160)
    program = PROJECT / "tests" / "bundle" / "by_model_api.py"
    words = [str(python), "-I", str(program), str(bundle), str(tmp_path / "images")]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    as_they_are, resized = (line.split() for line in done.stdout.splitlines()[-2:])
    assert int(as_they_are[0]) > 30 and int(resized[0]) > 20
    assert float(as_they_are[1]) < 0.52 and float(as_they_are[2]) < 1e-4
    assert float(resized[1]) < 1.5 and float(resized[2]) < 0.03
