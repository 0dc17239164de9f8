"""Reads an mmdet config, merges the matrix's options into it, and builds the detector."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv
import torch
from mmcv.cnn import RFSearchHook
from mmdet.datasets import DATASETS
from mmdet.models import build_detector

from farm.errors import InputError, StepFailed
from farm.failures import in_one_line, out_of_memory
from farm.plan.content import config_files
from farm.sources import notices, user_code
from farm.sources.mmdet import patches
from farm.sources.mmdet.data import test_data

if TYPE_CHECKING:
    from farm import specs


@user_code.ignored()
def read(model: specs.Model) -> mmcv.Config:
    """Read the config and merge `cfg_options` into it.

    Raises:
        InputError: the file is missing or is no config, an option does not fit, or the config has
            no model.
    """
    path = model.config.path
    if not Path(path).is_file():
        raise InputError("no such config; give a path, or a config that mmdet ships", path)
    reason = None
    try:
        config = mmcv.Config.fromfile(path)
    except Exception as error:  # a config is Python code and may raise anything
        if out_of_memory(error):
            raise
        reason = _unreadable(error)
    if reason and path.endswith(".py"):
        config_files.refuse_text(Path(path).read_text(errors="replace"), path)
    if reason:  # not in the block above, so that mmcv's temporary file is closed first
        raise InputError(reason, path)
    config_files.refuse_values(config, path)
    try:
        config.merge_from_dict(copy.deepcopy(dict(model.cfg_options)))
    except (KeyError, TypeError, AssertionError, IndexError) as error:
        raise InputError(f"cfg_options do not fit it: {in_one_line(error)}", path) from error
    if not isinstance(config.get("model"), dict):
        raise InputError("it has no `model`; expected a detector's config of mmdet 2.x", path)
    notices.merged.send(_text(config._cfg_dict))
    return config


def _text(value: Any) -> str:
    """Equal text for equal values; a value that is not plain data is written as its type."""
    if isinstance(value, dict):
        items = sorted((str(key), _text(item)) for key, item in value.items())
        return f"{{{', '.join(f'{key!r}: {item}' for key, item in items)}}}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(_text, value))})"
    plain = isinstance(value, str | int | float | bool | None)
    return repr(value) if plain else type(value).__qualname__


def _unreadable(error: BaseException) -> str:
    missing = error.__context__  # mmcv hides the import's error behind a bare ImportError
    if isinstance(error, ImportError) and isinstance(missing, ModuleNotFoundError):
        return f"it needs the package {missing.name}, which is not installed"
    return f"not a config mmcv can read: {in_one_line(error)}"


@user_code.ignored()
def build(config: mmcv.Config, where: str) -> torch.nn.Module:
    """Build the detector, without trained weights, in eval mode.

    Raises:
        InputError: mmdet cannot build it.
        StepFailed: it needs a file besides the config.
    """
    patches.complete()
    settings = _student(_for_inference(copy.deepcopy(config.model)))
    settings.train_cfg = None
    try:
        detector = build_detector(settings, test_cfg=config.get("test_cfg")).eval()
    except Exception as error:  # any constructor of any registered module
        raise InputError(f"mmdet cannot build its model: {in_one_line(error)}", where) from error
    _widen(detector, config)
    return detector


def _for_inference(settings: Any) -> Any:
    """`settings` without what only training needs.

    Every `pretrained` and `init_cfg` is removed, since the checkpoint has the weights. mmcv's
    synchronised normalisation needs a process group even to be constructed; with learned statistics
    it computes the same as the plain one, which replaces it.
    """
    if isinstance(settings, dict):
        for key in ("pretrained", "init_cfg"):
            settings.pop(key, None)
        if settings.get("type") == "MMSyncBN":
            settings["type"] = "BN"
    if isinstance(settings, (dict, list, tuple)):
        for value in settings.values() if isinstance(settings, dict) else settings:
            _for_inference(value)
    return settings


def _student(settings: Any) -> Any:
    """A distilled detector without its teacher, which is not tested and not in the checkpoint.

    mmdet would load the teacher's config by a path relative to its own sources, and download its
    weights.
    """
    if settings.get("type") in ("KnowledgeDistillationSingleStageDetector", "LAD"):
        for key in [key for key in settings if "teacher" in key]:
            settings.pop(key)
        settings.type = "SingleStageDetector"
    return settings


def _widen(detector: Any, config: mmcv.Config) -> None:
    """Sets the dilations of RF-Next's convolutions, which a hook of the config has, not its model.

    mmdet's own test does so, too. Without it, the weights of a finished search would load into the
    plain model, which computes something else.
    """
    hooks = [hook for hook in config.get("custom_hooks") or () if hook["type"] == "RFSearchHook"]
    for hook in hooks[:1]:
        if file := hook.get("rfstructure_file"):
            raise StepFailed(
                f"its dilations are those of another file, {file}, which is not read: only what"
                " a config says of itself can be exported"
            )
        RFSearchHook(hook["mode"], copy.deepcopy(hook["config"]), verbose=False).init_model(
            detector
        )


def class_names(config: mmcv.Config, where: str) -> tuple[str, ...]:
    """Return the class names of the config, else of the data set's type; empty if neither has any.

    Raises:
        InputError: the config names a file of class names that does not exist.
    """
    tested = test_data.parts(config, "test") or [test_data.Part("data.test", {})]
    names = tested[0].settings.get("classes") or config.get("classes")
    if isinstance(names, str):
        names = _listed(names, where)
    if not names:
        kind = tested[0].kind or DATASETS.get(config.get("dataset_type") or "")
        names = getattr(kind, "CLASSES", None)
    return as_names(names)


def as_names(value: Any) -> tuple[str, ...]:
    """Return class names as a tuple, from the forms that configs and checkpoints use.

    A string is one name.
    """
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def _listed(file: str, where: str) -> list[str]:
    """The lines of a file of class names, where mmdet looks for it or in the config's folder."""
    path = notices.find(file, where, "beside")
    if path is None:
        raise InputError(
            f"its `classes` is a file that is not there: {file}; for one class write ['{file}']",
            where,
        )
    names: list[str] = mmcv.list_from_file(str(path))
    return names
