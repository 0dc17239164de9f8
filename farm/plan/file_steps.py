"""The steps up to the file that an engine is made of, which cells share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from farm import catalog, specs
from farm.plan import precisions
from farm.plan.factory import export_step, new_step, one_image, prepare_step, traced
from farm.plan.steps import Needs, Step

if TYPE_CHECKING:
    from farm.plan.planner import Draft
    from farm.specs import Cell

RAW_IMAGES = 2
"""How many images are compared by their raw outputs, which are large and hold many values."""


class FileSteps:
    """Plans `prepare`, `reference`, `export` and `convert` of cells."""

    def __init__(self, draft: Draft) -> None:
        self._draft, self._spec, self._shapes = draft, draft.spec, draft.shapes
        self._prepared_as = _first_alike(self._shapes, one_image)
        self._traced_as = _first_alike(self._shapes, traced)

    def of(self, cell: Cell, check: Step, converts: bool) -> dict[str, Step]:
        """Return the steps of a cell by stage, with its `check`. converts: it has a `convert`."""
        # Profiles that differ in what a stage does not look at share its steps.
        prepared = cell.model, self._prepared_as[cell.shape], cell.postprocess
        file = cell.model, self._traced_as[cell.shape], cell.postprocess, cell.opset
        batch, once = self._shapes[cell.shape].min.n, self._draft.once
        steps = {"check": check}
        steps["prepare"] = once(
            "prepare",
            prepared[:2],
            lambda: self._prepare(cell, check, self._draft.datasets[cell.model]),
        )
        steps["reference"] = once(
            "reference",
            (*prepared, batch if cell.postprocess == "none" else None),
            lambda: self._reference(cell, steps["prepare"]),
        )
        if catalog.runtime_of(cell.runtime).exported:
            steps["export"] = once("export", file, lambda: self._export(cell, check))
        if converts:
            steps["convert"] = once(
                "convert",
                (*file, *prepared, batch, cell.precision),
                lambda: self._convert(cell, steps["export"], check),
            )
        return steps

    def _prepare(self, cell: Cell, check: Step, images: specs.Dataset) -> Step:
        facts, shape = self._draft.facts[cell.model], self._shapes[cell.shape]
        sizes = facts.sizes if shape.dynamic_size else None
        values = specs.PrepareInputs(facts.pipeline, shape, images, sizes)
        return self._draft.add(prepare_step(f"{cell.shape} for {cell.model}", values, check))

    def _reference(self, cell: Cell, prepare: Step) -> Step:
        model, images = self._draft.models[cell.model], self._spec.verify.images
        classes = self._draft.facts[cell.model].classes
        values = specs.ReferenceInputs(model, prepare.ref, images, classes=classes)
        if cell.postprocess == "none":
            batch = self._shapes[cell.shape].min.n
            images = min(images, max(batch, RAW_IMAGES))
            values = specs.ReferenceInputs(model, prepare.ref, images, raw_batch=batch)
        packages = catalog.SOURCES[model.source].packages
        packages += catalog.OWN_STAGES["reference"].packages
        label = f"{cell.model} {cell.shape}"
        step = new_step("reference", label, values, packages, Needs(), prepare)
        return self._draft.add_loading(cell.model, step)

    def _export(self, cell: Cell, check: Step) -> Step:
        model, ends_at = self._draft.models[cell.model], self._draft.ends_at(cell)
        opset = f"op{cell.opset}" if cell.opset else ""
        parts = [cell.model, opset, cell.shape, ends_at if ends_at != "graph" else ""]
        label = " ".join(filter(None, parts))
        shape, simplifies = self._shapes[cell.shape], self._draft.simplifies(cell.model)
        values = specs.ExportInputs(model, shape, cell.opset, ends_at, simplifies)
        return self._draft.add_loading(cell.model, export_step(label, values, check))

    def _convert(self, cell: Cell, export: Step, check: Step) -> Step:
        own = self._spec.models[cell.model].keep_fp32
        keep = tuple(sorted(self._spec.keep_fp32 if own is None else own))
        packages = catalog.OWN_STAGES["convert"].packages
        parents, int8 = [export], None
        if cell.precision == "int8":
            packages += catalog.INT8_PACKAGES
            if self._spec.int8.auto is not None:
                packages += catalog.OWN_STAGES["evaluate"].packages
            images = self._draft.inputs.calibration_of(self._draft.datasets[cell.model])
            parents.append(self._prepare(cell, check, images))
            facts, suppresses = self._draft.facts[cell.model], self._draft.ends_at(cell) != "host"
            batch = self._shapes[cell.shape].min.n
            int8 = precisions.quantisation(
                self._spec, images, parents[-1].ref, batch, facts, suppresses
            )
        values = specs.ConvertInputs(export.ref, cell.precision, keep, int8)
        label = f"{export.label} {cell.precision}"
        return self._draft.add(new_step("convert", label, values, packages, Needs(), *parents))


def _first_alike(
    shapes: Mapping[str, specs.Shape], seen_as: Callable[[specs.Shape], specs.Shape]
) -> dict[str, str]:
    """Return for each shape the first one that a stage cannot tell from it.

    seen_as: what the stage sees of a shape.
    """
    first: dict[specs.Shape, str] = {}
    return {
        name: first.setdefault(replace(seen_as(shape), name=""), name)
        for name, shape in shapes.items()
    }
