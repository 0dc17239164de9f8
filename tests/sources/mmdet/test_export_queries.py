"""Query detectors: branches and rules that no family's trial shows, against mmdet's own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmcv import ConfigDict
from mmdet.models import build_detector
from mmdet.models.dense_heads import DETRHead

from farm import specs
from farm.catalog import RUNTIMES
from farm.runtimes.openvino import adapter
from farm.sources import onnx_files
from farm.sources.mmdet import graphs, patches, random_weights
from farm.sources.mmdet.detector import Detector
from farm.sources.mmdet.patches.roi_align import roi_align
from farm.sources.mmdet.queries import deformable_detr
from farm.specs import Dims

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

CLASSES, CHANNELS = 5, 16
BACKBONE = {
    "type": "ResNet", "depth": 18, "base_channels": 8, "num_stages": 4, "norm_eval": True,
    "norm_cfg": {"type": "BN", "requires_grad": False},
}  # fmt: skip


def attention(dims: int) -> dict[str, Any]:
    return {"type": "MultiheadAttention", "embed_dims": dims, "num_heads": 2, "dropout": 0.0}


def detr(sigmoid: bool, count: int) -> Any:
    """Small; `count` of its 12 queries are kept."""
    ffn = {"ffn_cfgs": {"type": "FFN", "embed_dims": CHANNELS}, "feedforward_channels": 16}
    encoder = {
        "type": "BaseTransformerLayer", "attn_cfgs": [attention(CHANNELS)],
        "operation_order": ("self_attn", "norm", "ffn", "norm"), **ffn,
    }  # fmt: skip
    order = ("self_attn", "norm", "cross_attn", "norm", "ffn", "norm")
    decoder = {
        "type": "DetrTransformerDecoderLayer", "attn_cfgs": attention(CHANNELS),
        "operation_order": order, **ffn,
    }  # fmt: skip
    layers = {"num_layers": 1, "transformerlayers": encoder}
    transformer = {
        "type": "Transformer", "encoder": {"type": "DetrTransformerEncoder", **layers},
        "decoder": {
            "type": "DetrTransformerDecoder", "return_intermediate": True,
            **layers, "transformerlayers": decoder,
        },
    }  # fmt: skip
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": sigmoid, "class_weight": 1.0}
    positions = {"type": "SinePositionalEncoding", "num_feats": CHANNELS // 2, "normalize": True}
    head = {
        "type": "DETRHead", "num_classes": CLASSES, "num_query": 12, "in_channels": 64,
        "transformer": transformer, "positional_encoding": positions, "loss_cls": loss,
    }  # fmt: skip
    backbone = BACKBONE | {"out_indices": (3,)}
    settings = {"max_per_img": count}
    return built(type="DETR", backbone=backbone, bbox_head=head, test_cfg=settings)


def sparse(sigmoid: bool) -> Any:
    """Small: two stages, nine proposals, classes by sigmoid or by softmax."""
    strides = {"out_channels": CHANNELS, "featmap_strides": [4, 8, 16, 32]}
    layer = {"type": "RoIAlign", "output_size": 3, "sampling_ratio": 2}
    dynamic = {
        "type": "DynamicConv", "in_channels": CHANNELS, "feat_channels": 8,
        "out_channels": CHANNELS, "input_feat_shape": 3,
    }  # fmt: skip
    stage = {
        "type": "DIIHead", "num_classes": CLASSES, "in_channels": CHANNELS, "num_heads": 2,
        "feedforward_channels": 16, "dynamic_conv_cfg": dynamic,
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": sigmoid},
        "bbox_coder": {
            "type": "DeltaXYWHBBoxCoder", "clip_border": False,
            "target_stds": (0.5, 0.5, 1.0, 1.0),
        },
    }  # fmt: skip
    roi_head = {
        "type": "SparseRoIHead", "num_stages": 2, "stage_loss_weights": (1, 1),
        "proposal_feature_channel": CHANNELS, "bbox_head": [stage, stage],
        "bbox_roi_extractor": {"type": "SingleRoIExtractor", "roi_layer": layer, **strides},
    }  # fmt: skip
    rpn = {
        "type": "EmbeddingRPNHead", "num_proposals": 9, "proposal_feature_channel": CHANNELS
    }  # fmt: skip
    neck = {"type": "FPN", "in_channels": [8, 16, 32, 64], "out_channels": CHANNELS, "num_outs": 4}
    backbone = BACKBONE | {"out_indices": (0, 1, 2, 3)}
    settings = {"rpn": None, "rcnn": {"max_per_img": 12}}
    return built(
        type="SparseRCNN", backbone=backbone, neck=neck, rpn_head=rpn, roi_head=roi_head,
        train_cfg={"rpn": None, "rcnn": None}, test_cfg=settings,
    )  # fmt: skip


def built(**settings: Any) -> Any:
    """With weights whose scores vary from query to query."""
    torch.manual_seed(2)
    model = build_detector(ConfigDict(settings)).eval()
    random_weights._spread_queries(model)
    for name, layer in model.named_modules():
        if name.endswith(("fc_cls", "fc_reg")):
            random_weights._scale_output(layer, 0, 2 if name.endswith("fc_cls") else 0.2)
    with torch.no_grad():
        random_weights._run(model, noise(1, 64, 96))
    return model


def noise(count: int, height: int, width: int) -> Tensor:
    return torch.from_numpy(random_weights.noise(Dims(count, 3, height, width), 0))


@torch.no_grad()
def expected(model: Any, image: Tensor) -> Any:
    """mmdet's own answer."""
    facts = specs.ModelFacts(tuple("abcde"), False, "")
    return Detector(model, facts).reference_as_graph(image.numpy())


def compared(model: Any, dets: Any, labels: Any, images: Tensor) -> None:
    for image, found, kinds in zip(images, dets, labels, strict=True):
        wanted = expected(model, image)
        assert len(wanted) == len(found) and wanted.scores.std() > 0.01
        np.testing.assert_allclose(found[:, 4], wanted.scores, atol=1e-4)
        np.testing.assert_allclose(found[:, :4], wanted.boxes, atol=1e-2)
        np.testing.assert_array_equal(kinds, wanted.labels)


# Branches of the heads ------------------------------------------------------------------------


@pytest.mark.parametrize("sigmoid", [True, False])
@pytest.mark.parametrize("count", [12, 7])
@torch.no_grad()
def test_detr_keeps_the_queries_that_mmdet_keeps(sigmoid: bool, count: int) -> None:
    model, images = detr(sigmoid, count), noise(2, 64, 96)
    dets, labels = graphs.graph(model)(images)
    compared(model, dets, labels, images)


@pytest.mark.parametrize("sigmoid", [True, False])
@torch.no_grad()
def test_sparse_rcnn_keeps_the_pairs_that_mmdet_keeps(sigmoid: bool) -> None:
    model, images = sparse(sigmoid), noise(2, 64, 96)
    dets, labels = graphs.graph(model)(images)
    compared(model, dets, labels, images)


@pytest.mark.parametrize("name", ["detr", "sparse"])
@torch.no_grad()
def test_a_file_follows_the_size_that_positions_and_proposals_depend_on(
    name: str, tmp_path: Path
) -> None:
    """At opset 11: attention there needs a reshape that torch's exporter lacks."""
    shape = specs.Shape("s", Dims(1, 3, 32, 32), Dims(1, 3, 64, 96), Dims(2, 3, 256, 256))
    model, path = detr(False, 12) if name == "detr" else sparse(True), tmp_path / "model.onnx"
    with patches.standard(11):
        onnx_files.write(graphs.graph(model), shape, 11, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = noise(2, 128, 64)
    dets, labels = session.run(None, {"images": images.numpy()})
    compared(model, dets, labels, images)


def test_only_detr_clips_its_boxes_and_neither_suppresses() -> None:
    assert graphs.clips_boxes(detr(False, 12)) is True
    assert graphs.clips_boxes(sparse(True)) is None  # its box coder says: no
    for model in (detr(False, 12), sparse(True)):
        assert graphs.graph(model, "host").outputs == ("dets", "labels")


# Operators ------------------------------------------------------------------------------------


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)

    def forward(self, queries: Tensor) -> Tensor:
        attended: Tensor = self.attention(queries, queries, queries)[0]
        return attended


def export(module: nn.Module, given: Tensor, opset: int, free: int) -> bytes:
    file: Any = io.BytesIO()
    torch.onnx.export(
        module.eval(), (given,), file, dynamo=False, autograd_inlining=False, opset_version=opset,
        input_names=["given"], output_names=["found"], dynamic_axes={"given": {free: "free"}},
    )  # fmt: skip
    written: bytes = file.getvalue()
    return written


@pytest.mark.parametrize("opset", [11, 13, 17])
@torch.no_grad()
def test_attention_is_written_at_every_opset_and_length(opset: int) -> None:
    module = SelfAttention()
    with patches.standard(opset):
        model = export(module, torch.randn(5, 2, 8), opset, 0)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    longer = torch.randn(9, 2, 8)
    found = session.run(None, {"given": longer.numpy()})[0]
    np.testing.assert_allclose(found, module(longer).numpy(), atol=1e-5)


@torch.no_grad()
def test_torch_itself_cannot_write_attention_below_13() -> None:
    with pytest.raises(torch.onnx.errors.UnsupportedOperatorError, match="unflatten"):
        export(SelfAttention(), torch.randn(5, 2, 8), 11, 0)


class Pooled(nn.Module):
    """Features of boxes on one map, with several samples a bin."""

    def forward(self, boxes: Tensor) -> Tensor:
        layer = ConfigDict(output_size=(3, 3), spatial_scale=0.25, sampling_ratio=2, aligned=True)
        features = torch.arange(2.0 * 16 * 24).sin().reshape(1, 2, 16, 24)
        return roi_align(features, boxes, torch.zeros_like(boxes[:, 0]).long(), layer)


@pytest.mark.parametrize("count", [0, 3])
@torch.no_grad()
def test_a_level_without_boxes_is_pooled_by_openvino_below_16(count: int) -> None:
    boxes = torch.tensor([[4.0, 4, 40, 30], [10, 20, 60, 50], [30, 2, 90, 60]])
    with patches.standard(11):
        model = export(Pooled(), boxes, 11, 0)
    core = adapter.core_with_operators()
    compiled = core.compile_model(core.read_model(model), "CPU")
    (found,) = compiled([boxes[:count].numpy()]).values()
    np.testing.assert_allclose(found, Pooled()(boxes[:count]).numpy(), atol=1e-2)


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 17])
def test_places_of_a_fixed_size_are_floats(opset: int, tmp_path: Path) -> None:
    """The exporter folds an integer and a half to a double, which LayerNormalization refuses."""

    class Centres(nn.Module):
        outputs = ("centres",)

        def forward(self, images: Tensor) -> Tensor:
            return deformable_detr._centres(images, torch._shape_as_tensor(images)[2:])

    dims = Dims(1, 3, 64, 96)
    onnx_files.write(Centres(), specs.Shape("fixed", dims, dims, dims), opset, tmp_path / "c.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "c.onnx")
    images = np.zeros(dims.as_tuple(), np.float32)
    (found,) = session.run(None, dict.fromkeys([one.name for one in session.get_inputs()], images))
    expected = Centres()(torch.from_numpy(images)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_openvino_compiles_the_proposals_of_a_fixed_size(tmp_path: Path) -> None:
    """Parts cut at sums over levels have sizes that it does not know, and cannot do without."""

    class Sides(nn.Module):
        outputs = ("sides",)

        def forward(self, images: Tensor) -> Tensor:
            maps = [images, images[..., ::2, ::2]]
            return deformable_detr._sides(deformable_detr._levels(maps)) * images.mean()

    dims, path = Dims(1, 3, 32, 48), tmp_path / "s.onnx"
    shape = specs.Shape("fixed", dims, dims, dims)
    onnx_files.write(Sides(), shape, 17, path)
    images = torch.rand(dims.as_tuple(), generator=torch.Generator().manual_seed(0))
    runtime, options = RUNTIMES["openvino"], specs.EngineOptions("openvino", "fp32", shape)
    runtime.build(path, tmp_path, options)
    session = runtime.open_engine(tmp_path, options, 1)
    found = session.run(images.numpy())["sides"]
    session.close()
    np.testing.assert_allclose(found, Sides()(images).numpy(), rtol=1e-5)


def test_a_head_with_a_rule_of_its_own_is_refused_by_its_name() -> None:
    class Own(DETRHead):  # type: ignore[misc]
        def _get_bboxes_single(self, *given: Any) -> Any:
            return super()._get_bboxes_single(*given)

    model = detr(False, 12)
    model.bbox_head.__class__ = Own
    with pytest.raises(ValueError, match="Own has its own _get_bboxes_single"):
        graphs.graph(model)


def test_a_stage_with_a_rule_of_its_own_is_refused_by_its_name() -> None:
    model = sparse(True)

    class Own(type(model.roi_head.bbox_head[1])):  # type: ignore[misc]
        def refine_bboxes(self, *given: Any) -> Any:
            return super().refine_bboxes(*given)

    model.roi_head.bbox_head[1].__class__ = Own
    with pytest.raises(ValueError, match="Own has its own refine_bboxes"):
        graphs.graph(model)
