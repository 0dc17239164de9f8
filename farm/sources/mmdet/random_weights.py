"""Weights by seed under which a detector finds objects: for trying any config without training.

Plain random weights score nothing, or score everything alike, so that two wrong detectors
agree. Here every normalisation is set to what it really sees, and the layers that predict are
scaled to a wanted mean and spread, on one image of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import numpy as np
import numpy.typing as npt
import torch
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.utils import InvertedResidual
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from farm import specs
from farm.sources.mmdet import config
from farm.sources.mmdet.detector import class_count
from farm.units import Dims

Lift = Mapping[str, tuple[float, float]]
"""For each layer that predicts (a part of its name): the mean and spread of what it puts out."""


def noise(dims: Dims, seed: int) -> npt.NDArray[np.float32]:
    """Images [N, 3, H, W] with structure at several scales; each channel of mean 0, spread 1.

    Equal statistics matter: a random net knows no invariance, and multiplies what differs.
    """
    random = torch.Generator().manual_seed(seed)
    image = torch.zeros(dims.as_tuple())
    for cell in (1, 8, 32):
        grid = torch.randn(dims.n, 3, dims.h // cell + 1, dims.w // cell + 1, generator=random)
        image += nn.functional.interpolate(grid, size=(dims.h, dims.w), mode="bilinear")
    spread, mean = torch.std_mean(image, dim=(2, 3), keepdim=True)
    return ((image - mean) / spread).numpy()


def write(model: specs.Model, lift: Lift, dims: Dims, seed: int) -> None:
    """Write `model.checkpoint.path`: the weights of `seed` for `model.config`.

    Raises:
        InputError: mmdet cannot build the config.
    """
    # A larger image: statistics of few places are poor, and that adds up from layer to layer.
    times = 3 if dims.h * dims.w < 40_000 else 2
    large = Dims(1, 3, dims.h * times, dims.w * times)
    write_for(model, lift, noise(large, seed), seed)


@torch.no_grad()
def write_for(
    model: specs.Model,
    lift: Lift,
    images: npt.NDArray[np.float32],
    seed: int,
    alter: Callable[[nn.Module], None] = lambda detector: None,
) -> None:
    """`write`, with the images [N, 3, H, W] that the layers are lifted on.

    alter: changes the drawn weights before anything is lifted.
    """
    settings = config.read(model)
    torch.manual_seed(seed)
    detector = config.build(settings, model.config.path)
    _fill_uninitialised(detector)
    _part_queries(detector)
    _calm(detector)
    alter(detector)
    hooks = [_settle(m) for m in detector.modules() if isinstance(m, _BatchNorm)]
    for name, module in detector.named_modules():
        if wanted := _wanted(name, module, lift):
            hooks.append(_lift(module, *wanted))
    if lift:  # without, it is a model that is refused, and perhaps none that runs on images alone
        _run(detector, torch.from_numpy(images))
    for hook in hooks:
        hook.remove()
    # Open Images keeps its names in a file of its annotations.
    names = config.class_names(settings, model.config.path) or _numbers(class_count(detector) or 0)
    path = Path(model.checkpoint.path)
    torch.save({"state_dict": detector.state_dict(), "meta": {"CLASSES": names}}, path)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _wanted(name: str, module: nn.Module, lift: Lift) -> tuple[float, float] | None:
    """A normalisation is lifted only where its name is given to the end."""
    for part, value in lift.items():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and part in name:
            return value
        if isinstance(module, _BatchNorm) and name.endswith(part):
            return value
    return None


def _fill_uninitialised(detector: nn.Module) -> None:
    """mmdet makes some weights with `torch.Tensor(n)` and fills them in `init_weights` only.

    Layers that start at zero do nothing: an export without them would be no different.
    """
    for module in detector.modules():
        if type(module).__name__ == "L2Norm":
            nn.init.constant_(module.get_parameter("weight"), 20)
        if type(module).__name__ == "TridentConv":
            nn.init.kaiming_normal_(module.get_parameter("weight"))
        if type(module).__name__ == "DeformableDetrTransformer":
            nn.init.normal_(module.get_parameter("level_embeds"))
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.01)  # shifts of deformable layers start at zero


def _calm(detector: nn.Module) -> None:
    """Residual branches add a fifth of what they did: as trained ones, they correct.

    With all of it, each block multiplies what rounding did in the one before: an image moved by
    one part in 10^7 has scores moved by 10^-3, and two right detectors differ.
    """
    for module in detector.modules():
        if (last := _last_norm(module)) is not None:
            nn.init.constant_(last.weight, 0.2)


def _last_norm(block: Any) -> Any:
    """What a residual branch ends with; None for other modules."""
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


def _part_queries(detector: nn.Module) -> None:
    """Trained queries look at different places; as torch draws them they hardly do."""
    for module in detector.modules():
        name = _QUERIES.get(type(module).__name__)
        if name and not getattr(module, "as_two_stage", False):
            nn.init.normal_(module.get_parameter(name), std=5)
        if type(module).__name__ == "EmbeddingRPNHead":  # centres and sizes, as parts of the image
            nn.init.uniform_(module.get_parameter("init_proposal_bboxes.weight"), 0.2, 0.8)


def _settle(norm: Any) -> Any:
    """On its first call the norm takes the statistics of what it is given."""

    def hook(_: Any, arguments: tuple[Tensor, ...]) -> None:
        flat = arguments[0].transpose(0, 1).flatten(1)
        if norm.running_mean is not None and flat.shape[1] > 1:
            norm.running_mean.copy_(flat.mean(1))
            norm.running_var.copy_(flat.var(1).clamp(min=1e-4))
        handle.remove()

    handle = norm.register_forward_pre_hook(hook)
    return handle


def _lift(layer: Any, mean: float, spread: float) -> Any:
    """On its first call the layer is scaled: each output channel gets this mean and spread."""

    def hook(_: Any, __: Any, out: Tensor) -> Tensor:
        channel = -1 if isinstance(layer, nn.Linear) else 1
        flat = out.movedim(channel, 0).flatten(1)
        if flat.shape[1] < 2:  # a single place has no spread to speak of
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
