"""Reads a checkpoint without running code from it, and loads it into a model key by key."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from farm.errors import InputError
from farm.failures import out_of_memory
from farm.sources.checkpoints import files
from farm.sources.checkpoints.state_dict import few, state_of, word


def read(path: str, allow_pickle: bool) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the checkpoint's state dict and its meta (empty where it has none), on the CPU.

    Raises:
        InputError: the file is missing, empty, damaged or of another format, has no weights that a
            model can load, or has pickled objects that are not allowed or not installed.
    """
    if not Path(path).is_file():
        raise InputError("no such checkpoint", path)
    if Path(path).stat().st_size == 0:
        raise InputError("the checkpoint is empty (0 bytes); copy it again", path)
    if other := files.other_format(path):
        raise InputError(f"it is no checkpoint of torch's but {other}", path)
    content = _unpickle(path, allow_pickle)
    state, meta = state_of(content, path), content.get("meta")
    return state, meta if isinstance(meta, dict) else {}


def _unpickle(path: str, allow_pickle: bool) -> Any:
    if part := files.torn_part(path):
        raise InputError(f"the checkpoint is torn: {part} is damaged; copy it again", path)
    try:
        return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except Exception as error:  # torch raises many types of error for a damaged file
        if out_of_memory(error):
            raise
        raise InputError(_why(path, error, allow_pickle), path) from error


def _why(path: str, error: Exception, allow_pickle: bool) -> str:
    """Why torch does not load the file."""
    try:
        names = files.names_in(path)
    except files.Torn as torn:
        return (
            f"the checkpoint is torn or no checkpoint of torch's ({torn});"
            " copy it again and compare its size"
        )
    if missing := files.missing_packages(names):
        return (
            f"it holds objects of {few(missing)}, which is not installed; install it, or where it"
            " is save the weights alone: torch.save({'state_dict': ...}, path)"
        )
    if allow_pickle or not isinstance(error, pickle.UnpicklingError):
        return f"torch cannot load it: {type(error).__name__}: {word(str(error)[:200])}"
    return (
        "it holds pickled objects beside weights, and loading those can run code; if you"
        " trust where it comes from, give --allow-pickle, or in a matrix"
        f" `allow_pickle: true` for this one model ({_unsupported(error)})"
    )


def _unsupported(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "Unsupported" in line]
    return word(lines[0][:200]) if lines else type(error).__name__


def fit(
    detector: torch.nn.Module, state: dict[str, torch.Tensor], where: str, whole: str = "config"
) -> None:
    """Load `state` into `detector`; no weight may be missing or unexpected.

    whole: what messages call the source of the model, as "config".

    Raises:
        InputError: keys are missing, unexpected or mismatched; names the first, with shapes.
    """
    own = detector.state_dict()
    shared = [key for key in own if key in state and torch.is_tensor(own[key])]
    mismatched = [
        f"{key} is {_shape(state[key])}, the {whole}'s is {_shape(own[key])}"
        for key in shared
        if own[key].shape != state[key].shape
    ]
    if mismatched:
        raise InputError(
            f"it does not fit the {whole}{_class_counts(own, state)}: {few(mismatched)}", where
        )
    if whole_numbers := [
        f"{key} is {state[key].dtype}, the {whole}'s is {own[key].dtype}"
        for key in shared
        if own[key].is_floating_point() and not state[key].is_floating_point()
    ]:
        raise InputError(f"it does not fit the {whole}: {few(whole_numbers)}", where)
    result = detector.load_state_dict(state, strict=False)
    # Old checkpoints lack this counter, which is used in training only.
    missing = [k for k in result.missing_keys if not k.endswith("num_batches_tracked")]
    problems = []
    if missing:
        problems.append("missing " + few(f"{key} {_shape(own[key])}" for key in missing))
    if unexpected := result.unexpected_keys:
        problems.append("unexpected " + few(f"{word(k)} {_shape(state[k])}" for k in unexpected))
    if problems:
        raise InputError(f"it does not fit the {whole}: {'; '.join(problems)}", where)


def _class_counts(own: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> str:
    """A note for the message where the shapes differ by the number of classes."""
    shapes = [(own[k].shape, state[k].shape) for k in own if k in state]
    different = [(mine, other) for mine, other in shapes if mine != other]
    if all(len(a) and len(a) == len(b) and a[1:] == b[1:] for a, b in different):
        return " (only numbers of outputs differ, as they do for another number of classes)"
    return ""


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
