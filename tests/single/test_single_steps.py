"""What the single-model tools take from the store is whole, by a ready ONNX file."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from conftest import PROJECT

from farm.bundle import onnx_file
from farm.errors import FarmError
from farm.plan import Step
from farm.plan.content.files import plain_file
from farm.plan.factory import export_step, step_to_build
from farm.plan.machines.placement import cpu_model
from farm.single.exported import artifact_of, described
from farm.single.steps import find_artifact, import_onnx, run_step
from farm.specs import Dims, EngineOptions, ExportInputs, OnnxModel, Shape, Target
from farm.store import Store

SHAPE = Shape("s", *(Dims(1, 3, 160, 160),) * 3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def export() -> Step:
    file = plain_file("ONNX file", "matrices/sources/peaks.onnx", PROJECT)
    return export_step("peaks", ExportInputs(OnnxModel("peaks", file), SHAPE, None))


def test_an_artifact_that_was_altered_is_not_handed_out(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    step = export()
    path = run_step(step, store) / "model.onnx"
    good = path.read_bytes()
    assert run_step(step, store) == path.parent
    assert "found in the store" in capsys.readouterr().err
    path.write_bytes(good[:-1] + b"X")
    run_step(step, store)
    shown = capsys.readouterr().err
    assert "model.onnx is altered; it is made anew" in shown and "done in" in shown
    assert path.read_bytes() == good


def test_a_file_is_found_by_its_digest_alone_where_the_artifact_is_whole(
    store: Store, tmp_path: Path
) -> None:
    step = export()
    path = run_step(step, store) / "model.onnx"
    (tmp_path / "mine.onnx").write_bytes(path.read_bytes())
    found = find_artifact(store, "export", tmp_path / "mine.onnx")
    assert found is not None and found.ref == step.ref
    (tmp_path / "other.onnx").write_bytes(path.read_bytes()[:-1] + b"X")
    assert find_artifact(store, "export", tmp_path / "other.onnx") is None
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    assert find_artifact(store, "export", tmp_path / "mine.onnx") is None


def test_an_exported_file_is_known_by_the_key_that_is_in_it(store: Store, tmp_path: Path) -> None:
    """It has names and preprocessing that the store's own has not."""
    step = export()
    path = run_step(step, store) / "model.onnx"
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(described(path, step.inputs, None))
    assert mine.read_bytes() != path.read_bytes()
    assert import_onnx(mine, store, False) == step.ref
    model = onnx.load(mine)
    model.producer_name = "somebody"
    onnx.save(model, mine)
    assert artifact_of(mine, store) is None
    onnx_file.set_metadata(model, {"export_key": "../../somewhere"})
    onnx.save(model, mine)
    assert artifact_of(mine, store) is None
    mine.write_bytes(b"no ONNX file")
    assert artifact_of(mine, store) is None


def test_a_parent_that_was_altered_is_named(store: Store) -> None:
    exported = export()
    path = run_step(exported, store) / "model.onnx"
    options = EngineOptions("null", "fp32", SHAPE)
    build = step_to_build("peaks", exported.ref, options, Target("here", cpu_model()))
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    with pytest.raises(FarmError, match=r"of export .*, which it reads, .*run again"):
        run_step(build, store)
    assert store.record(exported.ref) is None and store.failure(build.key) is None
    run_step(exported, store)
    assert (run_step(build, store) / "engine").is_dir()
