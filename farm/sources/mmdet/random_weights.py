"""Writes random weights with which a detector finds objects, to test any config without training.

With plain random weights, all scores are near 0 or all are equal, so that even wrong detectors
agree. Here every normalisation layer gets the statistics of its real inputs, and the outputs of the
prediction layers are scaled to a given mean and standard deviation, on one image of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import numpy as np
import numpy.typing as npt
import torch
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.utils import InvertedResidual
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from farm.sources.mmdet import config
from farm.sources.mmdet.parts import class_count
from farm.specs import Dims

if TYPE_CHECKING:
    from farm import specs

Targets = Mapping[str, tuple[float, float]]
"""Mean and standard deviation of a prediction layer's outputs, by a part of the layer's name."""


def noise(dims: Dims, seed: int) -> npt.NDArray[np.float32]:
    """Return noise images [N, 3, H, W] with structure at several scales.

    Each channel has mean 0 and standard deviation 1. Equal statistics matter, since a random
    network is not invariant to them and amplifies differences.
    """
    random = torch.Generator().manual_seed(seed)
    image = torch.zeros(dims.as_tuple())
    for cell in (1, 8, 32):
        grid = torch.randn(dims.n, 3, dims.h // cell + 1, dims.w // cell + 1, generator=random)
        image += nn.functional.interpolate(grid, size=(dims.h, dims.w), mode="bilinear")
    spread, mean = torch.std_mean(image, dim=(2, 3), keepdim=True)
    return ((image - mean) / spread).numpy()


def write(model: specs.Model, targets: Targets, dims: Dims, seed: int) -> None:
    """Write `model.checkpoint.path`: the weights of `seed` for `model.config`.

    Raises:
        InputError: mmdet cannot build the config.
    """
    # A larger image: statistics over few cells are inaccurate, and errors add up over the layers.
    times = 3 if dims.h * dims.w < 40_000 else 2
    large = Dims(1, 3, dims.h * times, dims.w * times)
    write_for(model, targets, noise(large, seed), seed)


@torch.no_grad()
def write_for(
    model: specs.Model,
    targets: Targets,
    images: npt.NDArray[np.float32],
    seed: int,
    alter: Callable[[nn.Module], None] = lambda detector: None,
) -> None:
    """Write the weights as `write` does, with layers scaled on the given images [N, 3, H, W].

    alter: changes the random weights before any layer is scaled.

    Raises:
        InputError: as `write`.
    """
    settings = config.read(model)
    torch.manual_seed(seed)
    detector = config.build(settings, model.config.path)
    _fill_uninitialised(detector)
    _spread_queries(detector)
    _weaken_residuals(detector)
    alter(detector)
    hooks = [_set_statistics(m) for m in detector.modules() if isinstance(m, _BatchNorm)]
    for name, module in detector.named_modules():
        if wanted := _wanted(name, module, targets):
            hooks.append(_scale_output(module, *wanted))
    if targets:  # models without targets cannot be exported, and may not run on images alone
        _run(detector, torch.from_numpy(images))
    for hook in hooks:
        hook.remove()
    # Open Images has its class names in an annotation file, so the config may have none.
    names = config.class_names(settings, model.config.path) or _numbers(class_count(detector) or 0)
    path = Path(model.checkpoint.path)
    torch.save({"state_dict": detector.state_dict(), "meta": {"CLASSES": names}}, path)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _wanted(name: str, module: nn.Module, targets: Targets) -> tuple[float, float] | None:
    """Mean and deviation for a layer; a normalisation layer must match by the end of its name."""
    for part, value in targets.items():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and part in name:
            return value
        if isinstance(module, _BatchNorm) and name.endswith(part):
            return value
    return None


def _fill_uninitialised(detector: nn.Module) -> None:
    """Fills weights that mmdet creates by `torch.Tensor(n)` and sets in `init_weights` only.

    Also fills layers that start at zero: they have no effect, so that a test would not notice if
    the export omitted them.
    """
    for module in detector.modules():
        if type(module).__name__ == "L2Norm":
            nn.init.constant_(module.get_parameter("weight"), 20)
        if type(module).__name__ == "TridentConv":
            nn.init.kaiming_normal_(module.get_parameter("weight"))
        if type(module).__name__ == "DeformableDetrTransformer":
            nn.init.normal_(module.get_parameter("level_embeds"))
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.01)  # such as deformable layers' offsets


def _weaken_residuals(detector: nn.Module) -> None:
    """Scales residual branches to a fifth, so that they are small corrections as in trained models.

    Otherwise each block amplifies the rounding errors of the previous one: a change of the image by
    one part in 10^7 changes scores by 10^-3, and two correct detectors differ.
    """
    for module in detector.modules():
        if (last := _last_norm(module)) is not None:
            nn.init.constant_(last.weight, 0.2)


def _last_norm(block: Any) -> Any:
    """The last normalisation layer of a residual branch; None for other modules."""
    if isinstance(block, Bottleneck):
        return block.norm3
    if isinstance(block, BasicBlock):
        return block.norm2
    if isinstance(block, InvertedResidual) and block.with_res_shortcut:
        return block.linear_conv.norm
    return None


_QUERIES = {
    "DETRHead": "query_embedding.weight",
    "DeformableDETRHead": "query_embedding.weight",
    "MaskFormerHead": "query_embed.weight",
}


def _spread_queries(detector: nn.Module) -> None:
    """Spreads queries, so that they attend to different locations, as trained ones do.

    With torch's initial values they hardly differ.
    """
    for module in detector.modules():
        name = _QUERIES.get(type(module).__name__)
        if name and not getattr(module, "as_two_stage", False):
            nn.init.normal_(module.get_parameter(name), std=5)
        if type(module).__name__ == "EmbeddingRPNHead":  # centre and size relative to the image
            nn.init.uniform_(module.get_parameter("init_proposal_bboxes.weight"), 0.2, 0.8)


def _set_statistics(norm: Any) -> Any:
    """Sets the norm's running statistics to those of its input, on its first call."""

    def hook(_: Any, arguments: tuple[Tensor, ...]) -> None:
        flat = arguments[0].transpose(0, 1).flatten(1)
        if norm.running_mean is not None and flat.shape[1] > 1:
            norm.running_mean.copy_(flat.mean(1))
            norm.running_var.copy_(flat.var(1).clamp(min=1e-4))
        handle.remove()

    handle = norm.register_forward_pre_hook(hook)
    return handle


def _scale_output(layer: Any, mean: float, spread: float) -> Any:
    """Scales the layer on its first call: each output channel gets this mean and deviation."""

    def hook(_: Any, __: Any, out: Tensor) -> Tensor:
        channel = -1 if isinstance(layer, nn.Linear) else 1
        flat = out.movedim(channel, 0).flatten(1)
        if flat.shape[1] < 2:  # one cell has no standard deviation
            return out
        factor = spread / flat.std(1).clamp(min=1e-6)
        shift = mean - flat.mean(1) * factor
        layer.weight.data *= factor.view((-1,) + (1,) * (layer.weight.dim() - 1))
        bias = layer.bias.data if layer.bias is not None else torch.zeros_like(shift)
        layer.bias = nn.Parameter(bias * factor + shift, requires_grad=False)
        handle.remove()
        axes = (-1,) if channel == -1 else (1, -1, 1, 1)
        return out * factor.view(axes) + shift.view(axes)

    handle = layer.register_forward_hook(hook)
    return handle


def _run(detector: Any, images: Tensor) -> None:
    size = tuple(images.shape[2:])
    meta = {
        "filename": "", "img_shape": (*size, 3), "ori_shape": (*size, 3), "pad_shape": (*size, 3),
        "batch_input_shape": size, "border": (0, size[0], 0, size[1]),
        "scale_factor": np.ones(4, np.float32), "flip": False, "flip_direction": None,
    }  # fmt: skip
    detector.simple_test(images, [meta] * len(images), rescale=False)
