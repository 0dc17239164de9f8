"""One cell again: which cell and matrix are meant, and the figures of a real one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT
from rows import row

from farm.cli.main import main
from farm.cli.reproduce import conclusion, difference, reproduce
from farm.cli.results import Results
from farm.config.loader import load_matrix
from farm.errors import InputError
from farm.plan import make_plan
from farm.results import leaderboard
from farm.results.kept.matrices import kept_matrix, matrix_path


def test_a_cell_that_is_not_recorded_is_named_with_the_nearest(tmp_path: Path) -> None:
    leaderboard.write([row("yolox.op17"), row("ssd.op17")], tmp_path, "s")
    with pytest.raises(
        InputError, match=r"no cell 'yolo.op17'; did you mean 'yolox.op17'"
    ) as error:
        reproduce("yolo.op17", Results(tmp_path), None)
    assert error.value.where == str(tmp_path)
    with pytest.raises(InputError, match="no sweep 'another'; expected one of: s"):
        reproduce("ssd.op17", Results(tmp_path), "another")


def test_a_cell_of_several_sweeps_needs_the_name_of_one(tmp_path: Path) -> None:
    leaderboard.write([row("x", sweep="a")], tmp_path, "a")
    leaderboard.write([row("x", sweep="b")], tmp_path, "b")
    with pytest.raises(InputError, match=r"several sweeps have this cell \(a, b\); give --sweep"):
        reproduce("x", Results(tmp_path), None)
    with pytest.raises(InputError, match="matrix is not kept here; run it again") as error:
        reproduce("x", Results(tmp_path), "b")
    assert error.value.where == str(matrix_path(tmp_path, "b"))


def test_only_the_owner_reads_a_kept_matrix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, *_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", forbidden)  # the tests may run as root, who reads everything
    with pytest.raises(InputError, match="reproduce as that user, or run it again"):
        kept_matrix(tmp_path, "s")


def test_the_steps_of_a_cell_are_run_with_all_their_ancestors(small_matrix: Path) -> None:
    plan = make_plan(load_matrix(small_matrix, ["runtimes=[onnxruntime, openvino]"]))
    first, second = plan.cells
    steps = plan.with_ancestors([first.steps["measure"]])
    assert {"check", "export", "build", "measure"} <= {step.stage for step in steps.values()}
    assert second.steps["build"] not in steps
    assert list(steps) == [key for key in plan.steps if key in steps]  # parents first


@pytest.mark.slow
def test_a_cell_ends_again_as_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def farm(*words: object) -> tuple[object, str]:
        monkeypatch.setattr("sys.argv", ["farm", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capfd.readouterr().out

    values = yaml.safe_load((PROJECT / "matrices" / "sources.yaml").read_text())
    ready = values["models"]["ready"]
    ready["file"] = str(PROJECT / "matrices" / ready["file"])
    values |= {"models": {"ready": ready}, "runtimes": ["onnxruntime"], "name": "again"}
    values["dataset"]["count"] = 4
    values["measure"] = {"seconds": 0.1, "warmup_seconds": 0, "min_samples": 10}
    values["compare"] = False
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(values))
    options = ("--results", tmp_path / "r")
    words = ("run", tmp_path / "m.yaml", "--executor", "inline", "--no-mlflow", *options)
    assert farm(*words)[0] == 0
    recorded = leaderboard.read(tmp_path / "r")[0]
    (tmp_path / "m.yaml").unlink()  # the matrix that was kept is used
    before = sorted(path.name for path in (tmp_path / "r" / "store").glob("*/*/*"))
    code, text = farm("reproduce", recorded["cell"], *options)
    table = {line.split()[0]: line.split()[1:] for line in text.splitlines()[1:]}
    assert code == 0 and table["status"] == ["ok", "ok", "none"]
    assert table["bbox_mAP"][0] == table["bbox_mAP"][1] != "None"
    assert sorted(path.name for path in (tmp_path / "r" / "store").glob("*/*/*")) == before
    leaderboard.write([{**recorded, "status": "failed"}], tmp_path / "r", "again")
    code, text = farm("reproduce", recorded["cell"], *options)
    assert code == 1 and "failed" in text
    kept = matrix_path(tmp_path / "r", "again")
    edited = json.loads(kept.read_text())
    edited["values"]["exclude"] = [{"models": ["ready"], "runtimes": ["onnxruntime"]}]
    edited["values"]["runtimes"] = ["onnxruntime", "openvino"]
    kept.write_text(json.dumps(edited))
    assert farm("reproduce", recorded["cell"], *options)[0] == 2


def test_the_figures_of_both_runs_are_compared() -> None:
    values = dict.fromkeys(("box_ap", "mask_ap", "matched_fraction", "max_score_diff"), 0.5)
    first = {**row("x", **values), "latency_p50_ms": 10.0}
    said = conclusion(first, {**first, "latency_p50_ms": 11.0})
    assert said.startswith("All but the latency is the same. The latencies differ by 10%, as two")
    assert said.endswith("--again measure --only x")
    said = conclusion(first, {**first, "latency_p50_ms": 5.0, "box_ap": 0.4})
    assert said.startswith("Differs in bbox_mAP. The latencies differ by 100%, more than load")
    assert (
        conclusion(first, {**first, "latency_p50_ms": None}) == "All but the latency is the same."
    )
    found = [difference(*one) for one in ((1.0, 1.0), (0.5, 0.25), (0.0, 1.0), ("ok", "failed"))]
    assert found == ["none", "-0.25 (-50.0%)", "+1", "another"]
