"""Every kind of model, made narrow, is the same detector as in PyTorch; and `farm models`."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.detections.convert import from_outputs, in_network_frame
from farm.detections.matching import match
from farm.models import families
from farm.models.trial import Subject, Trial, judged
from farm.runtimes import torch as torch_runtime
from farm.sources.mmdet import random_weights

pytestmark = pytest.mark.slow

NARROW = families.read(Path(__file__).with_name("narrow.yaml"))


@pytest.fixture(scope="module", params=list(NARROW))
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(NARROW[request.param], tmp_path_factory.mktemp(request.param))


def test_weights_find_objects_and_nothing_is_refused(subject: Subject) -> None:
    assert subject.detector.facts.refused is None
    assert subject.unfit() is None


def test_graph_in_torch_is_the_same_detector(subject: Subject) -> None:
    facts = subject.detector.facts
    session = torch_runtime.open_module(subject.detector.graph(), threads=1)
    for dims in subject.sizes("dynamic"):
        outputs = session.run(random_weights.noise(dims, subject.family.seed))
        found = [
            in_network_frame(one, (dims.h, dims.w), facts.mask_threshold, facts.mask_frame)
            for one in from_outputs(outputs)
        ]
        trial = judged(Trial(0, "torch", "torch", None), match(subject.expected(dims), found))
        assert trial.reason is None, f"{dims}: {trial}"


@pytest.mark.parametrize(("opset", "kind"), [(11, "dynamic"), (17, "dynamic"), (20, "fixed")])
def test_file_is_the_same_detector(subject: Subject, opset: int, kind: str) -> None:
    for trial in subject.trials([opset], [kind], ["onnxruntime", "openvino"]):
        assert trial.reason is None, str(trial)
