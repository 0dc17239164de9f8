"""Lets mmcv 1.7 and mmdet 2.28 be imported beside today's torch; import this before them."""

from __future__ import annotations

import importlib.machinery
import sys
import types
import warnings

import cv2
import torch

# The farm runs one preparing process per core; OpenCV's own threads would only get in their way.
cv2.setNumThreads(0)


def _has_torchvision() -> bool:
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError):  # missing, or built for another torch
        sys.modules.pop("torchvision", None)
        return False
    return True


def _import_mmcv() -> None:
    """mmcv.runner imports torchvision for model-zoo addresses only, which the farm never uses.

    The placeholder is gone afterwards: a module that looks for torchvision later must not find it.
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
    """torch says once per process how mmdet's prior generators call it; said here, unheard."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        torch.meshgrid(torch.zeros(1), torch.zeros(1))


def _leave_the_root_logger() -> None:
    """mmcv takes Python's root logger for one of its own ("root"), and sets it to tell all.

    Each deformable layer of a checkpoint then says that it is "upgraded to version 2".
    """
    from mmcv.utils import logging as mmcv_logging

    mmcv_logging.logger_initialized["root"] = True


_import_mmcv()
_leave_the_root_logger()
_warn_of_meshgrid_once()
