"""Finds the weights in a checkpoint, normalises their names and checks their values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch

from farm.errors import InputError, shown

_SHOWN = 5


def state_of(content: Any, path: str) -> dict[str, torch.Tensor]:
    """Return the tensors by name from the unpickled content of the file `path`.

    Raises:
        InputError: it has no weights, or weights that no model can load.
    """
    expected = "expected `state_dict`, or weights by name"
    if not isinstance(content, dict):
        raise InputError(f"it holds no weights but {_kind(content)}; {expected}", path)
    state = content.get("state_dict", content)
    if not isinstance(state, dict):
        raise InputError(f"its `state_dict` is {_kind(state)}, not weights by name", path)
    if not any(map(torch.is_tensor, state.values())):
        deeper = [word(k) for k, v in state.items() if isinstance(v, dict) and _weights(v)]
        found = f"; they are one level deeper, below {few(deeper)}" if deeper else ""
        raise InputError(f"it holds no weights; {expected}{found}", path)
    if odd := [word(key) for key in state if not isinstance(key, str)]:
        raise InputError(f"names of weights that are no text: {few(odd)}", path)
    plain = _plain(state)
    if len({key.removeprefix("module.") for key in state}) < len(state):
        raise InputError(
            "it has weights twice, with `module.` before their names and without", path
        )
    if refused := [f"{word(key)} {why}" for key, value in plain.items() if (why := _unfit(value))]:
        raise InputError(f"weights that no detector takes: {few(refused)}", path)
    if broken := [word(key) for key, value in plain.items() if not _finite(value)]:
        raise InputError(f"weights are NaN or infinite: {few(broken)}; copy it again", path)
    return plain


def _weights(values: dict[Any, Any]) -> bool:
    return any(torch.is_tensor(value) for value in values.values()) or any(
        isinstance(inner, dict) and any(map(torch.is_tensor, inner.values()))
        for inner in values.values()
    )


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _unfit(value: torch.Tensor) -> str:
    """Why no model can load this tensor; empty where one can."""
    if value.is_meta:
        return "has no values (it is on the device meta)"
    if value.layout != torch.strided or value.is_nested:
        return "is sparse or nested"
    if value.is_quantized:
        return "is quantised"
    if value.is_complex():
        return "is complex"
    held = _distinct(value)
    if held.numel() * held.element_size() > held.untyped_storage().nbytes():
        return "overlaps itself"
    return ""


def _distinct(value: torch.Tensor) -> torch.Tensor:
    """The tensor without repeated values: an expanded tensor can have a size of terabytes."""
    for axis, step in enumerate(value.stride()):
        if step == 0 and value.shape[axis] > 1:
            value = value.narrow(axis, 0, 1)
    return value


def _finite(value: torch.Tensor) -> bool:
    return not value.is_floating_point() or bool(_distinct(value).isfinite().all())


def _plain(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights without `module.` (data-parallel training) and without the EMA hook's copies.

    mmdet's EMA hook swaps the two sets before it saves: the plain names hold the averaged weights,
    and the `ema_` names hold those with which training would continue.
    """
    plain = OrderedDict(
        (key.removeprefix("module."), value)
        for key, value in state.items()
        if torch.is_tensor(value) and not key.removeprefix("module.").startswith("ema_")
    )
    plain._metadata = getattr(state, "_metadata", OrderedDict())  # type: ignore[attr-defined]
    return plain


def word(name: Any) -> str:
    """Return a name from the file unchanged if it is safe to print, otherwise escaped."""
    return name if isinstance(name, str) and name.isprintable() and len(name) < 250 else shown(name)


def few(items: Iterable[str]) -> str:
    """Join the first items with commas, and state how many more there are."""
    every = list(items)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
