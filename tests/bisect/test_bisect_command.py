"""`farm bisect` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Farm
from rows import row

from farm.cli.main import main
from farm.results import leaderboard

OPENVINO = "onestage.op17.fixed.fp32.openvino.cpu"


@pytest.mark.slow
def test_the_first_node_that_rounds_otherwise_is_named(demo: Path, farm: Farm) -> None:
    words = ("bisect", OPENVINO, "--results", demo, "--against", "fp32", "--tolerance", "1e-6")
    done = farm(*words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "openvino in fp32 leaves the fp32 file at /" in done.stdout.rpartition("\n\n")[2]
    (found,) = json.loads(farm(*words, "--images", "2", "--json").stdout)
    assert found["differs"] is None and found["found"]["difference"] > 1e-6


@pytest.mark.slow
def test_a_cell_without_an_engine_is_wrong_input(demo: Path, farm: Farm) -> None:
    done = farm("bisect", "onestage.fixed.fp32.torch.cpu", "--results", demo)
    assert done.returncode == 2 and "PyTorch itself runs it: there is no engine" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["yolo.op17"], "no cell 'yolo.op17'; did you mean 'yolox.op17'"),
        (["yolox.op17"], "matrix is not kept here; run it again"),
        (["yolox.op17", "--tolerance", "0"], "0 is no tolerance"),
        (["yolox.op17", "--images", "0"], "0 is no number of images"),
        (["yolox.op17", "--memory", "12"], "is not a size with a unit"),
        (["yolox.op17", "--versions", "openvino"], "names no releases"),
        (
            ["yolox.op17", "--versions", "openvino==2025.2", "--against", "pytorch"],
            "releases are compared with the fp32 file",
        ),
    ],
)
def test_wrong_input(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    leaderboard.write([row("yolox.op17")], tmp_path, "s")
    monkeypatch.setattr("sys.argv", ["farm", "bisect", *words, "--results", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and said in capsys.readouterr().err
