"""Load a matrix: one YAML file, validated, with every error at its line."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from farm.catalog import RUNTIMES, runtime_of
from farm.config import releases
from farm.config.document import Document, load
from farm.config.expand import combinations, expand
from farm.config.models import PreprocessSpec, dataset_specs, model_specs
from farm.config.schema import MatrixSpec, SelectionSpec
from farm.config.selections import with_lists
from farm.errors import InputError, nearest, shown, together
from farm.options import RuntimeOptions, explain
from farm.specs import Cell

__all__ = ["Cell", "Document", "Matrix", "load_matrix", "validate"]

log = logging.getLogger(__name__)

_MOST_CELLS = 250_000

_IDLE = {
    "exclude": "this exclude takes no cell away: none has these values together",
    "include": "this include adds no cell: no runtime has these values on these targets",
}

_RENAMED_DATASETS = {"shapes": "synthetic"}
"""Former names of types of data sets, which matrices may still use."""


@dataclass(frozen=True)
class Matrix:
    """A valid matrix: its values, its cells, and the lines of the file that set them."""

    spec: MatrixSpec
    cells: tuple[Cell, ...]
    document: Document

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def folder(self) -> Path:
        """The folder from which relative paths in the matrix start."""
        return self.document.folder


def load_matrix(path: Path | str, overrides: Sequence[str] = ()) -> Matrix:
    """Read a matrix file, apply overrides, validate it and expand its cells.

    Raises:
        InputError: names every mistake with its line.
    """
    return validate(load(Path(path), overrides))


def validate(document: Document) -> Matrix:
    """Validate a document and expand its cells.

    Raises:
        InputError: names every mistake with its line.
    """
    document = with_lists(_with_current_names(document))
    try:
        spec = MatrixSpec.model_validate(document.values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise together(_explain(document, details) for details in found) from None
    if spec.folder is not None and not document.folder.is_dir():
        raise InputError(f"there is no folder {document.folder}", document.where(("folder",)))
    options, wrong = _options(document, spec)
    unknown = itertools.chain(_unknown_names(document, spec), _without_data(document, spec), wrong)
    if first := next(unknown, None):
        raise together(itertools.chain([first], unknown))
    spec = spec.model_copy(update={"runtime_options": options})
    if (count := combinations(spec)) > _MOST_CELLS:
        message = f"its axes make {count} cells; {_MOST_CELLS} are the most: split the matrix"
        raise InputError(message, document.where(()))
    cells, idle = expand(spec)
    for key in idle:
        log.warning("%s: %s", document.where(key), _IDLE[str(key[0])])
    if not cells:
        on_cpus = [name for name, one in RUNTIMES.items() if one.packages and not one.accelerators]
        raise InputError(
            "no cell is left: the excludes take all of them, or no runtime here runs on the "
            f"targets ({', '.join(on_cpus)} run on CPUs) or has the precisions",
            document.where(("exclude",) if spec.exclude else ("runtimes",)),
        )
    return Matrix(spec, cells, document)


def _with_current_names(document: Document) -> Document:
    """Replace the former name of a data set's type, and warn where it is used.

    A type alone, as in `dataset: config`, is a data set without options.
    """
    dataset = document.values.get("dataset")
    if isinstance(dataset, str):
        dataset = {"type": dataset}
        document = replace(document, values=document.values | {"dataset": dataset})
    if not isinstance(dataset, dict):
        return document
    former = dataset.get("type")
    if not isinstance(former, str) or former not in _RENAMED_DATASETS:
        return document
    current = _RENAMED_DATASETS[former]
    place = document.where(("dataset", "type"))
    log.warning("%s: the data set type '%s' is now called '%s'", place, former, current)
    values = document.values | {"dataset": {**dataset, "type": current}}
    return replace(document, values=values)


def _explain(document: Document, details: ErrorDetails) -> InputError:
    """Explain one of pydantic's errors by the keys and the line of the file."""
    # Tags of unions ('coco') and '[key]' stand in pydantic's path but not in the file.
    key = _path_in(document.values, details["loc"])
    name = ".".join(str(part) for part in key) or "the matrix"
    match details["type"]:
        case "extra_forbidden":
            known = _fields_at(key[:-1], document.values)
            message = f"unknown key {shown(name)}{nearest(str(key[-1]), known)}"
        case "missing":
            # pydantic puts the tag of a union before the key: a data set's type, a model's source.
            loc, tagged = details["loc"], {("dataset", 1), ("models", 2)}
            missing = [str(part) for i, part in enumerate(loc) if (loc[0], i) not in tagged]
            message = f"{shown('.'.join(missing))} is missing"
        case "too_short":
            message = f"{shown(name)} is empty; give at least one"
        case "value_error":
            message = f"{shown(name)}: {details['ctx']['error']}"
        case "union_tag_not_found":
            message = f"{shown(name)} needs a 'type': {' or '.join(dataset_specs())}"
        case "union_tag_invalid":
            word, of_model = str(details["ctx"]["tag"]), details["loc"][0] == "models"
            kind, known = ("data set type", list(dataset_specs()))
            if of_model:
                kind, known = "model source", list(model_specs())
            message = f"unknown {kind} {shown(word)}{nearest(word, known)}"
        case "dict_type" | "model_type" | "model_attributes_type":
            message = f"{shown(name)} is a mapping of keys to values, not {shown(details['input'])}"
        case _:
            message = f"{shown(name)}: {_lower(details['msg'])}, not {shown(details['input'])}"
    return InputError(message, document.where(key))


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _path_in(values: Any, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    path: list[int | str] = []
    for part in loc:
        if isinstance(values, list) and isinstance(part, int):
            inside = part < len(values)
        else:
            inside = isinstance(values, dict) and part in values
        if inside:
            values = values[part]
            path.append(part)
    return tuple(path)


def _fields_at(key: tuple[int | str, ...], values: Any) -> list[str]:
    """Return the keys that the schema has in the mapping at `key`."""
    from farm.config import measuring, schema

    holders: dict[str, type[BaseModel]] = {
        "shapes": schema.ShapeSpec,
        "targets": schema.TargetSpec,
        "environments": schema.EnvironmentSpec,
        "include": schema.SelectionSpec,
        "exclude": schema.SelectionSpec,
        "verify": schema.VerifySpec,
        "measure": measuring.MeasureSpec,
        "calibration": schema.CalibrationSpec,
        "int8": schema.Int8Spec,
        "compare": measuring.CompareSpec,
        "racing": measuring.RacingSpec,
        "mlflow": schema.MlflowSpec,
    }
    if not key:
        return list(MatrixSpec.model_fields)
    if key == ("int8", "auto"):
        return list(schema.AutoSpec.model_fields)
    if key == ("measure", "server"):
        return list(measuring.ServerSpec.model_fields)
    if key[0] == "dataset":
        return list(dataset_specs()[values["dataset"]["type"]].model_fields)
    if key[0] == "models" and len(key) == 2:
        source = values["models"][key[1]].get("source", "mmdet")
        return list(model_specs()[source].model_fields)
    if key[0] == "models" and key[2:] == ("preprocess",):
        return list(PreprocessSpec.model_fields)
    return list(holders[str(key[0])].model_fields) if key[0] in holders else []


def _options(
    document: Document, spec: MatrixSpec
) -> tuple[dict[str, dict[str, Any]], list[InputError]]:
    """Validate the options of runtimes (`"false"` is false); return them and their mistakes.

    A runtime without an option model reports mistakes itself, when it is used.
    """
    taken, wrong = dict(spec.runtime_options), list[InputError]()
    for runtime, options in spec.runtime_options.items():
        if known := runtime_of(runtime).options:
            try:
                taken[runtime] = known.model_validate(options).model_dump(exclude_unset=True)
            except ValidationError as error:
                found = error.errors()
                wrong += [_wrong_option(document, runtime, known, details) for details in found]
    return taken, wrong


def _wrong_option(
    document: Document, runtime: str, known: type[RuntimeOptions], details: ErrorDetails
) -> InputError:
    place = document.where(("runtime_options", runtime, str(details["loc"][0])))
    return InputError(explain(runtime, known, details), place)


def _unknown_names(document: Document, spec: MatrixSpec) -> Iterator[InputError]:
    """Report names in selections that are defined nowhere."""
    known: dict[str, Any] = {"models": spec.models, "shapes": spec.shapes, "targets": spec.targets}
    selections: list[tuple[tuple[str | int, ...], Any]] = [
        (("models", name), model) for name, model in spec.models.items()
    ]
    for kind in ("include", "exclude"):
        rules: list[SelectionSpec] = getattr(spec, kind)
        selections += [((kind, i), rule) for i, rule in enumerate(rules)]
    for key, holder in selections:
        for axis, words in known.items():
            for i, word in enumerate(getattr(holder, axis, None) or ()):
                if word not in words:
                    message = f"{axis[:-1]} {shown(word)} is not defined{nearest(word, words)}"
                    yield InputError(message, document.where((*key, axis, i)))
    yield from _unknown_releases(document, spec, selections)


def _without_data(document: Document, spec: MatrixSpec) -> Iterator[InputError]:
    """Report models that have no config, where configs name the data sets."""
    for name, model in spec.models.items() if spec.dataset.type == "config" else ():
        if model.source != "mmdet":
            what = f"model {shown(name)} has no config that names a data set"
            yield InputError(f"{what}; name one in `dataset`", document.where(("models", name)))


def _unknown_releases(
    document: Document, spec: MatrixSpec, selections: list[tuple[tuple[str | int, ...], Any]]
) -> Iterator[InputError]:
    """Report runtimes whose part after the @ is neither an environment nor a version."""
    named: list[tuple[tuple[str | int, ...], str]]
    named = [(("runtime_options", name), name) for name in spec.runtime_options]
    for key, holder in [((), spec), *selections]:
        words = getattr(holder, "runtimes", None) or ()
        named += [((*key, "runtimes", i), word) for i, word in enumerate(words)]
    for place, word in named:
        if reason := releases.unknown(word, spec.environments):
            yield InputError(reason, document.where(place))
