"""Explain what is wrong with a matrix: each mistake at its line, with what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from farm.config import measuring, quantising, releases, schema
from farm.config.models import PreprocessSpec, dataset_specs, model_specs
from farm.config.schema import MatrixSpec, SelectionSpec
from farm.errors import InputError, nearest, shown

if TYPE_CHECKING:
    from farm.config.document import Document


def explained(document: Document, details: ErrorDetails) -> InputError:
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
    holders: dict[str, type[BaseModel]] = {
        "shapes": schema.ShapeSpec,
        "targets": schema.TargetSpec,
        "environments": schema.EnvironmentSpec,
        "include": schema.SelectionSpec,
        "exclude": schema.SelectionSpec,
        "verify": schema.VerifySpec,
        "measure": measuring.MeasureSpec,
        "calibration": quantising.CalibrationSpec,
        "int8": quantising.Int8Spec,
        "compare": measuring.CompareSpec,
        "racing": measuring.RacingSpec,
        "mlflow": schema.MlflowSpec,
    }
    if not key:
        return list(MatrixSpec.model_fields)
    if key == ("int8", "auto"):
        return list(quantising.AutoSpec.model_fields)
    if key == ("measure", "server"):
        return list(measuring.ServerSpec.model_fields)
    if key[0] == "dataset":
        return list(dataset_specs()[values["dataset"]["type"]].model_fields)
    if key[0] == "models" and len(key) == 2:
        source = values["models"][key[1]].get("source", "mmdet")
        return list(model_specs()[source].model_fields)
    if key[2:] == ("preprocess",):  # of a model
        return list(PreprocessSpec.model_fields)
    return list(holders[str(key[0])].model_fields) if key[0] in holders else []


def unknown_names(document: Document, spec: MatrixSpec) -> Iterator[InputError]:
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


def without_data(document: Document, spec: MatrixSpec) -> Iterator[InputError]:
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
