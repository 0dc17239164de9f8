"""Every kind of model, made narrow, is the same detector as in PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from farm.detections.compare import compare
from farm.models import families
from farm.models.records import Trial
from farm.models.trial import Subject
from farm.models.verdict import SAME, with_agreement
from farm.plan.machines import placement
from farm.runtimes import torch as torch_runtime
from farm.sources import mmdet
from farm.sources.mmdet import random_weights
from farm.stages.inference import decoding_of, detect, network_batch
from farm.stages.table import MOVED
from farm.store import Store

pytestmark = pytest.mark.slow

NARROW = families.read(Path(__file__).with_name("narrow.yaml"))
RUNTIMES = ("onnxruntime", "openvino")


def made(family: families.Family, folder: Path) -> Subject:
    subject = Subject(family, Store(folder / "store"))
    assert subject.unusable() is None
    return subject


@pytest.fixture(scope="module", params=list(NARROW))
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The weights find objects, and nothing is refused."""
    return made(NARROW[request.param], tmp_path_factory.mktemp(request.param))


def test_graph_in_torch_is_the_same_detector(subject: Subject) -> None:
    torch.set_num_threads(1)
    detector = mmdet.load(subject.model)
    decoding = decoding_of(detector.facts)
    session = torch_runtime.TorchAdapter().open_module(detector.graph(), threads=1)
    for dims in subject.family.sizes("dynamic"):
        batch = network_batch(random_weights.noise(dims, subject.family.seed))
        found = compare(subject.answers(dims), list(detect(session, [batch], decoding)), SAME)
        trial = with_agreement(Trial(opset=0, kind="torch", runtime="torch"), found)
        assert trial.reason is None, f"{dims}: {trial}"


def test_it_is_held_against_itself_on_images_that_have_moved(subject: Subject) -> None:
    folder = Path(subject.model.checkpoint.path).parent
    for name in MOVED:
        pairs = dict(np.load(folder / name))
        differences = np.abs(pairs["reference_score"] - pairs["engine_score"])
        assert 0 < np.nanmax(differences) < SAME.max_score_diff


@pytest.mark.parametrize(("opset", "kind"), [(11, "dynamic"), (17, "dynamic"), (20, "fixed")])
def test_file_is_the_same_detector(subject: Subject, opset: int, kind: str) -> None:
    for trial in subject.trials(opset, kind, RUNTIMES):
        assert trial.reason is None, str(trial)


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn", "detr"])
def test_a_file_of_a_fixed_batch_is_the_same_detector(name: str, tmp_path: Path) -> None:
    family = replace(NARROW[name], shape=replace(NARROW[name].shape, n=2))
    for trial in made(family, tmp_path).trials(17, "fixed", RUNTIMES):
        assert trial.reason is None and trial.boxes > 20, str(trial)


@pytest.mark.skipif(bool(placement.gpus()), reason="there is a GPU here")
def test_a_step_that_fails_is_the_reason_of_its_trials_alone(tmp_path: Path) -> None:
    subject, store = made(NARROW["retinanet"], tmp_path), Store(tmp_path / "store")
    good, bad = subject.trials(17, "fixed", ["onnxruntime", "onnxruntime_cuda"])
    assert good.reason is None and good.boxes > 20 and good.nodes > 100
    assert str(bad.reason).startswith("cannot be built: ") and bad.nodes == good.nodes
    for trial in subject.trials(5, "fixed", RUNTIMES):
        assert "opset" in str(trial.reason) and not trial.boxes and not trial.temporary
    for stage in ("export", "build", "table.trial"):
        assert not list(store.refs(stage)), "the files of a trial go with it"
