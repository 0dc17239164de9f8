"""Makes mmcv 1.7 and mmdet 2.28 importable with a current torch; import this before them.

Also replaces their functions while a graph is traced.
"""

from __future__ import annotations

import functools
import importlib.machinery
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import cv2
import torch

# The farm prepares images with one process per core; OpenCV's own threads would compete with them.
cv2.setNumThreads(0)


def _has_torchvision() -> bool:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError):  # missing, or built for another torch
        sys.modules.pop("torchvision", None)
        return False
    return True


def _import_yapf() -> None:
    """Imports yapf, which mmcv formats configs with, without the cache of its grammar.

    yapf writes that file in place: a second process that starts meanwhile reads half of it, and one
    killed while writing would break every later import. Parsing the grammar takes 0.1 s.
    """
    try:
        from yapf_third_party._ylib2to3.pgen2 import driver
    except ImportError:  # another version of yapf
        return
    load_grammar = driver.load_grammar
    driver.load_grammar = functools.partial(load_grammar, save=False, force=True)
    try:
        import yapf  # noqa: F401
    finally:
        driver.load_grammar = load_grammar


def _import_mmcv() -> None:
    """Imports mmcv without torchvision, which it needs for addresses of a model zoo only.

    The placeholder is removed afterwards: a module that checks for torchvision must not find it.
    """
    placeholder = not _has_torchvision()
    if placeholder:
        module = types.ModuleType("torchvision")
        module.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
        sys.modules["torchvision"] = module
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="On January 1, 2023, MMCV will release")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            import mmdet.datasets
            import mmdet.models  # noqa: F401
    finally:
        if placeholder:
            del sys.modules["torchvision"]


def _warn_of_meshgrid_once() -> None:
    """Triggers torch's once-per-process warning on mmdet's use of `meshgrid`, and discards it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        torch.meshgrid(torch.zeros(1), torch.zeros(1))


def _leave_the_root_logger() -> None:
    """Keeps mmcv from configuring Python's root logger, which it uses under the name "root".

    Otherwise each deformable layer of a checkpoint logs that it is "upgraded to version 2".
    """
    from mmcv.utils import logging as mmcv_logging

    mmcv_logging.logger_initialized["root"] = True


_import_yapf()
_import_mmcv()
_leave_the_root_logger()
_warn_of_meshgrid_once()


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set `owner.name` to `value` in the block."""
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def replaced_everywhere(function: Callable[..., Any], name: str, value: Any) -> Iterator[None]:
    """Replace `function` in every module that imported it by `name`."""
    holders = [m for m in list(sys.modules.values()) if _has(m, name, function)]
    with ExitStack() as stack:
        for holder in holders:
            stack.enter_context(replaced(holder, name, value))
        yield


def _has(module: Any, name: str, function: Callable[..., Any]) -> bool:
    return getattr(module, "__dict__", {}).get(name) is function
