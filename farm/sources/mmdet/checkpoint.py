"""A checkpoint: read without running code from it, and fitted to a model key by key."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from farm.errors import InputError

_SHOWN = 5


def read(path: str, allow_pickle: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The checkpoint's state dict and its meta (empty where it has none), on the CPU.

    Raises:
        InputError: no such file, empty, torn, or holding pickled objects that are not allowed.
    """
    if not Path(path).is_file():
        raise InputError("no such checkpoint", path)
    if Path(path).stat().st_size == 0:
        raise InputError("the checkpoint is empty (0 bytes); copy it again", path)
    content = _unpickle(path, allow_pickle)
    meta = content.get("meta") if isinstance(content, dict) else None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(map(torch.is_tensor, state.values())):
        raise InputError("it holds no weights; expected `state_dict`, or weights by name", path)
    broken = [str(k) for k, v in state.items() if _not_finite(v)]
    if broken:
        raise InputError(f"weights are NaN or infinite: {_few(broken)}; copy it again", path)
    return _plain(state), meta if isinstance(meta, dict) else {}


def _not_finite(value: Any) -> bool:
    return torch.is_tensor(value) and value.is_floating_point() and not value.isfinite().all()


def _unpickle(path: str, allow_pickle: bool) -> Any:
    if zipfile.is_zipfile(path) and (part := _torn_part(path)):
        raise InputError(f"the checkpoint is torn: {part} is damaged; copy it again", path)
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:  # torch raises a dozen kinds for a torn file
        if isinstance(error, pickle.UnpicklingError) and _refused(path, error):
            raise InputError(
                "it holds pickled objects beside weights, and loading those can run code; if you"
                " trust where it comes from, give --allow-pickle, or in a matrix"
                f" `allow_pickle: true` for this one model ({_unsupported(error)})",
                path,
            ) from error
        raise InputError(
            f"the checkpoint is torn or no checkpoint of torch's ({type(error).__name__});"
            " copy it again and compare its size",
            path,
        ) from error


def _torn_part(path: str) -> str | None:
    """The first member of torch's zip file whose checksum does not hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError):
        return None  # torch says it better


def _refused(path: str, error: Exception) -> bool:
    """Whether the file is whole and only its objects are refused, rather than torn."""
    return zipfile.is_zipfile(path) or "Unsupported global" in str(error)


def _unsupported(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "Unsupported" in line]
    return lines[0][:200] if lines else type(error).__name__


def _plain(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Without `module.` (data-parallel training) and without the averaging hook's copies.

    mmdet's EMA hook swaps before it saves: the plain names hold the averaged weights, and the
    `ema_` ones are what training would go on with.
    """
    plain = OrderedDict(
        (key.removeprefix("module."), value)
        for key, value in state.items()
        if torch.is_tensor(value) and not key.removeprefix("module.").startswith("ema_")
    )
    plain._metadata = getattr(state, "_metadata", OrderedDict())  # type: ignore[attr-defined]
    return plain


def fit(
    detector: torch.nn.Module, state: dict[str, torch.Tensor], where: str, whole: str = "config"
) -> None:
    """Load `state` into `detector`: every weight finds its place, and none is left over.

    whole: what people know the detector by.

    Raises:
        InputError: names the first missing, unexpected and mismatched keys, with their shapes.
    """
    own = detector.state_dict()
    mismatched = [
        f"{key} is {_shape(state[key])}, the {whole}'s is {_shape(own[key])}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if mismatched:
        raise InputError(
            f"it does not fit the {whole}{_class_counts(own, state)}: {_few(mismatched)}", where
        )
    result = detector.load_state_dict(state, strict=False)
    # Old checkpoints lack this counter, which only training reads.
    missing = [k for k in result.missing_keys if not k.endswith("num_batches_tracked")]
    problems = []
    if missing:
        problems.append("missing " + _few(f"{key} {_shape(own[key])}" for key in missing))
    if unexpected := result.unexpected_keys:
        problems.append("unexpected " + _few(f"{k} {_shape(state[k])}" for k in unexpected))
    if problems:
        raise InputError(f"it does not fit the {whole}: {'; '.join(problems)}", where)


def _class_counts(own: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> str:
    """A note where the shapes differ as they do between two numbers of classes."""
    shapes = [(own[k].shape, state[k].shape) for k in own if k in state]
    different = [(mine, other) for mine, other in shapes if mine != other]
    if all(len(a) and len(a) == len(b) and a[1:] == b[1:] for a, b in different):
        return " (only numbers of outputs differ, as they do for another number of classes)"
    return ""


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _few(items: Iterable[str]) -> str:
    every = list(items)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
