"""Resolve what a matrix names into frozen inputs: models, data set, shapes, targets, precisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from farm import catalog, specs
from farm.config.models import MmdetSpec, ModuleSpec, OnnxSpec, OwnFormSpec
from farm.datasets.types import CocoSpec, ConfigSpec, SyntheticSpec
from farm.errors import InputError
from farm.options import DataFolder, ImageFolder, Mark, OutputPlace, marks
from farm.plan.content import files
from farm.plan.content.configs import config_file
from farm.plan.environments import Environments
from farm.plan.machines import placement
from farm.plan.machines.placement import cpu_model

if TYPE_CHECKING:
    from farm.config.loader import Matrix

CALIBRATION_IMAGES = 64
"""How many, where the matrix names no calibration images."""


class ResolvedInputs:
    """The frozen inputs of a matrix. Planning goes on without files that are `missing`."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix, self._spec, self._folder = matrix, matrix.spec, matrix.folder
        self.missing: list[InputError] = []
        self.dataset = self._dataset(self._spec.dataset)
        self.models = {name: self._model(name) for name in self._spec.models}
        self.labels = {
            name: tuple(spec.labels)
            for name, spec in self._spec.models.items()
            if isinstance(spec, MmdetSpec)
        }
        self.shapes = {name: self._shape(name) for name in self._spec.shapes}
        used = dict.fromkeys(cell.target for cell in matrix.cells)
        self.targets = {name: self._target(name) for name in used}
        self.environments = Environments(matrix)
        self.missing += self.environments.missing
        self.runtime_options = {
            # With the digests of files in place of their paths.
            name: self._resolved(catalog.runtime_of(name).options, given, "runtime_options", name)
            for name, given in self._spec.runtime_options.items()
        }

    def options_of(self, runtime: str) -> specs.Options:
        """Return the options of a cell's runtime: those of `openvino@2025.2` replace those of
        `openvino`."""
        own = [self.runtime_options.get(name, ()) for name in (runtime.partition("@")[0], runtime)]
        return tuple(sorted({**dict(own[0]), **dict(own[1])}.items()))

    def _file(self, find: Callable[[], specs.File], name: str, *place: str) -> specs.File:
        """Return the file; where it is not there, adds the error to `missing`."""
        try:
            return find()
        except InputError as error:
            where = self._matrix.document.where(place)
            if isinstance(error, files.NotThere):
                self.missing.append(error.at(where))
                return specs.File(name, f"missing {name}")
            message = f"{error.where}: {error.message}" if error.where else error.message
            self.missing.append(InputError(message, where))
            return specs.File(name, f"missing {name}")

    def _plain(self, kind: str, path: str, *place: str) -> specs.File:
        return self._file(lambda: files.plain_file(kind, path, self._folder), path, *place)

    def _model(self, name: str) -> specs.AnyModel:
        spec = self._spec.models[name]
        if isinstance(spec, MmdetSpec):
            return self._mmdet(name, spec)
        if isinstance(spec, ModuleSpec):
            return self._module(name, spec)
        assert isinstance(spec, OwnFormSpec)
        return self._onnx(name, spec) if isinstance(spec, OnnxSpec) else self._other(name, spec)

    def _mmdet(self, name: str, spec: MmdetSpec) -> specs.Model:
        config = self._file(
            lambda: config_file(spec.config, self._folder),
            spec.config, "models", name, "config",
        )  # fmt: skip
        return specs.Model(
            name=name,
            source=spec.source,
            config=config,
            checkpoint=self._plain("checkpoint", spec.checkpoint, "models", name, "checkpoint"),
            cfg_options=tuple(sorted(spec.cfg_options.items())),
            allow_pickle=spec.allow_pickle,
        )

    def _onnx(self, name: str, spec: OnnxSpec) -> specs.OnnxModel:
        return specs.OnnxModel(
            name=name,
            file=self._plain("ONNX file", spec.file, "models", name, "file"),
            outputs=spec.outputs,
            classes=tuple(spec.classes),
            preprocess=_preprocess(spec),
            clip_boxes=spec.clip_boxes,
        )

    def _module(self, name: str, spec: ModuleSpec) -> specs.ModuleModel:
        code = self._file(
            lambda: files.code_file(spec.function.partition(":")[0], self._folder),
            spec.function, "models", name, "function",
        )  # fmt: skip
        weights = spec.checkpoint and self._plain(
            "checkpoint", spec.checkpoint, "models", name, "checkpoint"
        )
        return specs.ModuleModel(
            name=name,
            function=spec.function,
            root=str(self._folder),
            code=code,
            checkpoint=weights or None,
            options=tuple(sorted(spec.options.items())),
            outputs=spec.outputs,
            classes=tuple(spec.classes),
            preprocess=_preprocess(spec),
            clip_boxes=spec.clip_boxes,
            allow_pickle=spec.allow_pickle,
        )

    def _other(self, name: str, spec: OwnFormSpec) -> specs.OtherModel:
        """Return a model of another package's source, with the fields that this source adds."""
        common = {*OwnFormSpec.model_fields}
        values = spec.model_dump(exclude_unset=True, exclude=common)
        return specs.OtherModel(
            name=name,
            source=spec.source,
            root=str(self._folder),
            options=self._resolved(type(spec), values, "models", name),
            outputs=spec.outputs,
            classes=tuple(spec.classes),
            preprocess=_preprocess(spec),
            clip_boxes=spec.clip_boxes,
        )

    def dataset_of(self, facts: specs.ModelFacts) -> specs.Dataset:
        """Return the data set that a model is evaluated on: that of the matrix, or the one that its
        own config names, as `check` has found it.

        Images and annotations are looked for here, so that changed ones are noticed.
        """
        own = self._spec.dataset
        if not isinstance(own, ConfigSpec) or not facts.data:
            return self.dataset
        entry = json.loads(facts.data) | {"limit": own.limit}
        kind = catalog.DATASETS[entry["type"]].spec
        assert kind is not None
        return self._dataset(kind.model_validate(entry))

    def _dataset(self, spec: Any) -> specs.Dataset:
        folder = self._folder
        if isinstance(spec, SyntheticSpec):
            return specs.ShapesDataset(spec.count, spec.seed, spec.size)
        if not isinstance(spec, CocoSpec):
            given = spec.model_dump(exclude_unset=True, exclude={"type", "limit"})
            # Frozen, as all inputs: they are looked up by their values.
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
            options = self._resolved(type(spec), values, "dataset")
            return specs.OtherDataset(spec.type, options, spec.limit)
        images = self._file(
            lambda: files.image_folder(spec.images, folder), spec.images, "dataset", "images"
        )
        annotations = self._plain("annotation file", spec.annotations, "dataset", "annotations")
        return specs.CocoDataset(images, annotations, spec.limit)

    def calibration_of(self, own: specs.Dataset) -> specs.Dataset:
        """Return the images that int8 is calibrated with, looked for where a cell is int8.

        own: the data set. Without others its first images are taken, or synthetic ones of another
        seed than those that are evaluated.
        """
        if self._spec.calibration is None:
            if isinstance(own, specs.ShapesDataset):
                return replace(own, count=min(own.count, CALIBRATION_IMAGES), seed=own.seed + 1)
            return replace(own, limit=min(own.limit or CALIBRATION_IMAGES, CALIBRATION_IMAGES))
        return self.calibration

    @cached_property
    def calibration(self) -> specs.Dataset:
        """The calibration images that the matrix names."""
        spec = self._spec.calibration
        assert spec is not None
        images = self._file(
            lambda: files.image_folder(spec.images, self._folder),
            spec.images, "calibration", "images",
        )  # fmt: skip
        if spec.annotations is None:
            return specs.FolderDataset(images, spec.limit)
        annotations = self._plain("annotation file", spec.annotations, "calibration", "annotations")
        return specs.CocoDataset(images, annotations, spec.limit)

    def _shape(self, name: str) -> specs.Shape:
        spec = self._spec.shapes[name]
        return specs.Shape(name, spec.min or spec.opt, spec.opt, spec.max or spec.opt)

    def _target(self, name: str) -> specs.Target:
        spec = self._spec.targets[name]
        if spec.accelerator is None:
            return specs.Target(name, spec.device or cpu_model())
        try:
            return placement.target(
                name, spec.accelerator, spec.device, spec.compute_capability, spec.driver
            )
        except InputError as error:
            where = self._matrix.document.where(("targets", name))
            raise InputError(error.message, where) from None

    def _resolved(
        self, model: type[BaseModel] | None, options: Mapping[str, Any], *place: str
    ) -> specs.Options:
        """Return options in the order of their names, with those that name files resolved."""
        fields = model.model_fields if model else {}
        known = dict(options)
        for name, value in options.items():
            field = fields.get(name)
            own = (*field.metadata, *marks(field.annotation)) if field and value else ()
            for mark in (one for one in own if isinstance(one, Mark)):
                known[name] = self._marked(mark, value, *place, name)
        return tuple(sorted(known.items()))

    def _marked(self, mark: Mark, value: Any, *place: str) -> Any:
        """Resolve an option that names files, or a place to write."""
        if isinstance(mark, OutputPlace):
            folder = "/" * value.endswith("/")  # it has a file per GPU then
            return specs.CachePath(f"{self._folder / value}{folder}")
        if isinstance(mark, ImageFolder):
            return self._file(lambda: files.image_folder(value, self._folder), value, *place)
        if isinstance(mark, DataFolder):
            find = partial(files.data_folder, value, self._folder, mark.suffixes)
            return self._file(find, value, *place)
        if isinstance(value, str):
            return self._plain(mark.kind, value, *place)
        return tuple(self._plain(mark.kind, one, *place) for one in value)


def _preprocess(spec: OwnFormSpec) -> specs.Preprocess:
    return specs.Preprocess(**dict(spec.preprocess))
