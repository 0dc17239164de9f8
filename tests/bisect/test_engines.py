"""Engines that are built and run once, in this process and in an environment."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import planted
import pytest

from farm.bisect.engines import Elsewhere, Here
from farm.errors import StepFailed
from farm.specs import Dims, EngineOptions, Environment, Shape

pytestmark = pytest.mark.slow

SIZE = Dims(1, 3, planted.SIZE, planted.SIZE)
HERE = Here(EngineOptions("onnxruntime", "fp32", Shape("fixed", SIZE, SIZE, SIZE)), 1)
ELSEWHERE = Elsewhere(Environment("onnxruntime@mine", interpreter=sys.executable), HERE)
IMAGES = np.ones(SIZE.as_tuple(), np.float32)


def test_an_environment_gives_what_this_process_does(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(planted.detector(0), str(file))
    ours, theirs = HERE.run(file, IMAGES), ELSEWHERE.run(file, IMAGES)
    assert list(ours) == list(theirs) == ["dets", "labels"]
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("runs", [HERE, ELSEWHERE], ids=["here", "elsewhere"])
def test_a_file_that_a_runtime_refuses_is_said_in_a_line(
    runs: Here | Elsewhere, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(StepFailed, match="onnxruntime cannot run it: ") as error:
        runs.run(tmp_path / "model.onnx", IMAGES)
    assert "\n" not in str(error.value)
