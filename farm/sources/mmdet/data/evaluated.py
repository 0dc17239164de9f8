"""The data set that a config's `data.test` names, as an entry of a matrix.

Its files are read by the farm, so it must be in a form that the farm knows, read and evaluated by
MMDetection's own code: of any other one the figures would be others than MMDetection's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.datasets import CocoDataset, CustomDataset, VOCDataset, XMLDataset

from farm.errors import InputError
from farm.sources import notices
from farm.sources.mmdet import config
from farm.sources.mmdet.data import numbering, overrides
from farm.sources.mmdet.data.test_data import Part, parts

if TYPE_CHECKING:
    from farm import specs

_READ = ("load_annotations", "get_ann_info", "evaluate", "_parse_ann_info")
"""Methods by which a data set reads its objects and evaluates boxes."""

Entry = dict[str, Any]


def entry(model: specs.Model) -> Entry:
    """Return the entry of a matrix's `dataset` for the config's test data, with absolute paths.

    Raises:
        InputError: the config names none, or several, or one that the farm cannot read.
    """
    settings, where = config.read(model), model.config.path
    found = parts(settings, "test")
    if not found:
        raise InputError(
            "it names no test data (`data.test`); name a data set in the matrix", where
        )
    if len(found) > 1 or found[0].wrappers:
        names = ", ".join(str(one.settings.get("type")) for one in (*found[0].wrappers, *found))
        raise InputError(
            f"its `data.test` is several data sets, or one in a wrapper ({names}); expected one"
            " plain data set: name it by cfg_options, or in the matrix's `dataset`",
            where,
        )
    part = found[0]
    return _form(part, where)(part, where)


def _form(part: Part, where: str) -> Callable[[Part, str], Entry]:
    """What makes the entry of a data set of this type. Raises InputError."""
    kind = part.kind
    if kind is None:
        name = part.settings.get("type")
        raise InputError(f"{part.place} is a {name!r}, which mmdet does not know", where)
    for base, form in _FORMS.items():
        if issubclass(kind, base) and all(_same(kind, base, name) for name in _READ):
            return form
    known = ", ".join(one.__name__ for one in _FORMS)
    own = ", ".join(sorted(overrides.overridden(kind)))
    raise InputError(
        f"{part.place} is a {kind.__name__}{own and f' with methods of its own ({own})'}, whose"
        f" annotations and metric the farm does not know; it reads {known}. Convert the"
        " annotations to COCO's format, and name them in the matrix's `dataset`",
        where,
    )


def _same(kind: type, base: type, name: str) -> bool:
    return getattr(kind, name, None) is getattr(base, name, None)


def _coco(part: Part, where: str) -> Entry:
    file = _annotations(part, where)
    return {"type": "coco", "images": _folder(part, where), "annotations": file}


def _xml(part: Part, where: str) -> Entry:
    root, file = _folder(part, where), _annotations(part, where)
    if not Path(file).is_relative_to(root):
        raise InputError(
            f"{part.file_option} {file} is not in the data set's folder {root}, where a list of"
            " images is expected",
            where,
        )
    is_voc = issubclass(part.kind, VOCDataset)
    return {
        "type": "voc",
        "root": root,
        "images": part.settings.get("img_subdir", "JPEGImages"),
        "annotations": part.settings.get("ann_subdir", "Annotations"),
        "split": str(Path(file).relative_to(root)),
        "classes": _classes(part, where),
        "map": "11-point" if is_voc and "VOC2007" in root else "area",
        "inclusive": is_voc,
    }


def _custom(part: Part, where: str) -> Entry:
    file = _annotations(part, where)
    return {
        "type": "custom",
        "images": _folder(part, where),
        "annotations": file,
        "classes": _classes(part, where),
    }


_FORMS: dict[type, Callable[[Part, str], Entry]] = {
    CocoDataset: _coco,
    VOCDataset: _xml,
    XMLDataset: _xml,
    CustomDataset: _custom,
}


def _classes(part: Part, where: str) -> list[str]:
    try:
        return list(numbering.of_classes(part, where))
    except ValueError as error:
        raise InputError(str(error), where) from None


def _annotations(part: Part, where: str) -> str:
    """The annotation file. It is opened, so that the model counts as changed when the file is."""
    file = notices.find(part.file, where, "above") if part.file else None
    if file is None:
        lacking = f"{part.file!r} is not there" if part.file else "the config names none"
        raise InputError(
            f"the annotation file of its test data: {lacking} ({part.file_option})", where
        )
    file.open("rb").close()
    return str(file.resolve())


def _folder(part: Part, where: str) -> str:
    """The folder of images: from the current folder, or from one above the config."""
    name, root = part.settings.get("img_prefix") or "", part.settings.get("data_root") or ""
    wanted = Path(root) / name
    bases = (Path.cwd(), *Path(where).resolve().parents)
    found = next((base / wanted for base in bases if (base / wanted).is_dir()), None)
    if not (name or root) or found is None:
        raise InputError(
            f"the image folder of its test data, {str(wanted)!r}, is not there"
            f" ({part.place}.img_prefix)",
            where,
        )
    return str(found.resolve())
