"""Files that change while a sweep runs leave nothing under the key of what they were."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import own_stage
import pytest
from conftest import wait_for

from farm.engine.workers.inputs import files_of, require_unchanged, unchanged
from farm.engine.workers.perform import perform
from farm.errors import StepFailed, TransientFailure
from farm.interrupts import Interrupted
from farm.plan.content import digests
from farm.plan.content.configs import config_file
from farm.plan.content.files import code_file, data_folder, image_folder, plain_file
from farm.plan.steps import Needs, Step
from farm.specs import (
    CachePath,
    CheckInputs,
    CocoDataset,
    Dims,
    EngineOptions,
    File,
    FolderDataset,
    Model,
    ModuleModel,
    OnnxModel,
    OtherDataset,
    OtherModel,
    Shape,
)
from farm.store import Store

NOWHERE = Path("/nonesuch")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What a matrix may name."""
    for name, text in {
        "base.py": "x = 1\n", "config.py": "_base_ = './base.py'\n", "weights.pth": "weights",
        "model.onnx": "onnx", "own.py": "import helper\n", "helper.py": "z = 3\n",
        "a.json": "{}", "images/1.jpg": "one", "images/sub/2.jpg": "two", "plugin.so": "code",
        "voc/a.xml": "<a/>", "voc/a.jpg": "one",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def plain(files: Path, name: str) -> File:
    return plain_file("file", name, files)


def mmdet(files: Path) -> Model:
    return Model("m", "mmdet", config_file("config.py", files), plain(files, "weights.pth"))


def coco(files: Path) -> CheckInputs:
    dataset = CocoDataset(image_folder("images", files), plain(files, "a.json"))
    return CheckInputs(mmdet(files), dataset)


def own_module(files: Path) -> ModuleModel:
    weights = plain(files, "weights.pth")
    return ModuleModel("m", "own:detector", str(files), code_file("own", files), weights)


def ready(files: Path) -> OnnxModel:
    return OnnxModel("m", plain(files, "model.onnx"))


def calibration(files: Path) -> CheckInputs:
    return CheckInputs(ready(files), FolderDataset(image_folder("images", files)), None)


def other(files: Path) -> tuple[Any, ...]:
    file = plain(files, "a.json")
    options = (
        ("labels", file),
        ("more", {"deep": [file]}),
        ("images", image_folder("images", files)),
    )
    return OtherModel("m", "theirs", str(files), options), OtherDataset("theirs", options)


def voc(files: Path) -> OtherDataset:
    return OtherDataset("voc", (("root", data_folder("voc", files, (".xml",))),))


def engine(files: Path) -> EngineOptions:
    shape = Shape("s", *(Dims(1, 3, 8, 8),) * 3)
    options = (("plugins", (plain(files, "plugin.so"),)), ("timing_cache", CachePath("/gone")))
    return EngineOptions("tensorrt", "fp32", shape, None, options)


KINDS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    # the inputs, the file that is changed, and the one that is named
    "a config": (mmdet, "config.py", "config.py"),
    "a base of a config": (mmdet, "base.py", "config.py"),
    "a checkpoint": (mmdet, "weights.pth", "weights.pth"),
    "an annotation file": (coco, "a.json", "a.json"),
    "an image": (coco, "images/sub/2.jpg", "images"),
    "an image of a folder": (calibration, "images/1.jpg", "images"),
    "an ONNX file": (ready, "model.onnx", "model.onnx"),
    "code": (own_module, "own.py", "own.py"),
    "code that is imported": (own_module, "helper.py", "own.py"),
    "weights of a module": (own_module, "weights.pth", "weights.pth"),
    "a file of another package's": (other, "a.json", "a.json"),
    "an annotation of a folder": (voc, "voc/a.xml", "voc"),
    "an image of a data set's folder": (voc, "voc/a.jpg", "voc"),
    "a plug-in": (engine, "plugin.so", "plugin.so"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_changed_is_named_and_its_return_is_seen(kind: str, files: Path) -> None:
    make, changed, named = KINDS[kind]
    inputs, path = make(files), files / changed
    require_unchanged(inputs, NOWHERE)
    whole = path.read_text()
    path.write_text(f"{whole}\n# more")
    with pytest.raises(TransientFailure) as error:
        require_unchanged(inputs, NOWHERE)
    assert str(error.value) == f"{files / named} changed while the sweep ran; run it again"
    path.write_text(whole)
    require_unchanged(inputs, NOWHERE)
    path.unlink()
    with pytest.raises(TransientFailure, match=f"{files / named} (was removed|changed)"):
        require_unchanged(inputs, NOWHERE)


def test_images_and_code_that_nothing_imports_may_change(files: Path) -> None:
    """As planning has it: of images names and sizes count, of code what is imported."""
    inputs = (coco(files), own_module(files))
    (files / "images" / "1.jpg").write_text("eno")
    (files / "unrelated.py").write_text("")
    require_unchanged(inputs, NOWHERE)
    (files / "images" / "3.jpg").write_text("new")
    with pytest.raises(TransientFailure, match="images changed"):
        require_unchanged(inputs, NOWHERE)


def test_of_the_folder_of_a_data_set_the_content_of_annotations_counts(files: Path) -> None:
    inputs = voc(files)
    (files / "voc" / "a.jpg").write_text("eno")
    require_unchanged(inputs, NOWHERE)
    (files / "voc" / "a.xml").write_text("<b/>")
    with pytest.raises(TransientFailure, match="voc changed"):
        require_unchanged(inputs, NOWHERE)


def test_every_file_of_the_inputs_is_found(files: Path) -> None:
    inputs = (coco(files), own_module(files), *other(files), engine(files), ready(files))
    names = sorted(Path(file.path).name for file, _ in files_of(inputs))
    assert names == sorted([
        "config.py", "weights.pth", "images", "a.json", "own.py", "weights.pth", "a.json", "a.json",
        "images", "a.json", "a.json", "images", "plugin.so", "model.onnx",
    ])  # fmt: skip
    assert list(files_of(("text", 3, None, {"a": 1.5}))) == []


def test_files_of_the_store_and_those_without_a_digest_are_left_to_others(files: Path) -> None:
    gone = File(str(files / "gone"), "")
    require_unchanged(gone, NOWHERE)
    in_store = File(str(files / "store" / "export" / "model.onnx"), "d1")
    require_unchanged(in_store, files / "store")
    for inputs in (in_store, (gone, in_store)):
        with pytest.raises(TransientFailure, match="was removed or cannot be read"):
            require_unchanged(inputs, NOWHERE)


def test_an_unchanged_file_is_not_read_again(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago = time.time() - 3600
    os.utime(files / "weights.pth", (long_ago, long_ago))
    now = digests.time.time_ns
    monkeypatch.setattr(digests.time, "time_ns", lambda: now() + 60_000_000_000)
    inputs = own_module(files)
    require_unchanged(inputs, NOWHERE)
    monkeypatch.setattr(digests, "_read", lambda path: pytest.fail(f"reads {path}"))
    require_unchanged(inputs, NOWHERE)
    (files / "weights.pth").write_text("other")
    with pytest.raises(pytest.fail.Exception, match=r"reads .*weights\.pth"):
        require_unchanged(inputs, NOWHERE)


def test_an_error_that_comes_with_a_change_is_its_consequence(files: Path) -> None:
    inputs = ready(files)
    with pytest.raises(StepFailed, match="no graph"), unchanged(inputs, NOWHERE):
        raise StepFailed("no graph")
    with pytest.raises(TransientFailure, match="changed") as error, unchanged(inputs, NOWHERE):
        (files / "model.onnx").write_text("torn")
        raise StepFailed("no graph")
    assert isinstance(error.value.__context__, StepFailed)


def test_an_interruption_stays_one(files: Path) -> None:
    with pytest.raises(Interrupted), unchanged(ready(files), NOWHERE):
        (files / "model.onnx").write_text("torn")
        raise Interrupted


def test_a_file_that_changed_before_is_found_before_the_work(files: Path) -> None:
    inputs, begun = ready(files), []
    (files / "model.onnx").write_text("another")
    with pytest.raises(TransientFailure), unchanged(inputs, NOWHERE):
        begun.append("it")
    assert begun == []


@dataclass(frozen=True)
class Inputs(own_stage.Inputs):
    """With files."""

    files: tuple[File, ...] = ()


def step(code: str, *files: File) -> Step:
    key = hashlib.sha256(code.encode()).hexdigest()
    inputs: Any = Inputs(code, None, files)
    return Step("own", key, "mine", inputs, (), (), Needs(), "c0de")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


BEHIND = "(context.folder / 'model.onnx').write_text('made'); figures['n'] = 1"


@pytest.mark.parametrize("end", ["", "\nraise ValueError('torn')", "\nimport sys; sys.exit(3)"])
def test_a_step_whose_checkpoint_is_overwritten_leaves_no_record(
    end: str, files: Path, store: Store
) -> None:
    path = files / "weights.pth"
    own = step(
        f"open({str(path)!r}, 'w').write('other'){end}\n{BEHIND}", plain(files, "weights.pth")
    )
    outcome = perform(own, str(store.root))
    assert outcome.status == "transient"
    assert outcome.reason == f"{path} changed while the sweep ran; run it again"
    assert store.record(own.ref) is None and store.failure(own.key) is None
    assert perform(own, str(store.root)).status == "transient"
    path.write_text("weights")
    (found, *_) = [perform(step(BEHIND, plain(files, "weights.pth")), str(store.root))]
    assert found.status == "done"


def test_a_file_that_somebody_else_overwrites_meanwhile(files: Path, store: Store) -> None:
    path, started = files / "weights.pth", files / "started"
    own = step(
        f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\n"
        f"while pathlib.Path({str(path)!r}).read_text() == 'weights': time.sleep(0.01)\n{BEHIND}",
        plain(files, "weights.pth"),
    )

    def overwrite() -> None:
        wait_for(started.exists)
        path.write_text("of another training run")

    thread = threading.Thread(target=overwrite)
    thread.start()
    outcome = perform(own, str(store.root))
    thread.join()
    assert (outcome.status, store.record(own.ref)) == ("transient", None)


def test_a_record_names_the_artifacts_that_its_step_read(store: Store) -> None:
    parent = step("(context.folder / 'out').write_text('made')")
    assert perform(parent, str(store.root)).status == "done"
    made = store.record(parent.ref)
    child = step(f"from farm.specs import Ref\ncontext.artifact(Ref('own', {parent.key!r}))")
    assert perform(child, str(store.root)).status == "done"
    record = store.record(child.ref)
    assert record is not None and made is not None and made.parents == {}
    assert record.parents == {f"own/{parent.key}": made.content}
