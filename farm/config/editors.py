"""The JSON schema of a matrix, by which editors complete and check it while it is written."""

from __future__ import annotations

from typing import Any

from farm.config.schema import MatrixSpec
from farm.config.selections import PLURALS

KEYS = {
    "name": "The name of the sweep, as the leaderboard shows it.",
    "models": "The models by name: an mmdet config and checkpoint, or another source.",
    "opsets": "The ONNX opsets to export at.",
    "shapes": "The profiles of input sizes by name: opt, with min and max for a dynamic one.",
    "postprocess": "Where a graph ends: after the suppression, before it, or at raw outputs.",
    "precisions": "The precisions of the engines.",
    "workspaces": "How much memory a builder may use for its tactics, as 1GiB.",
    "runtimes": "What runs the engines; a release as openvino@2025.2.",
    "environments": "Pythons or container images with packages of their own, by name.",
    "targets": "The kinds of machines to pick an engine for, by name.",
    "dataset": "The images to evaluate on, with their annotations.",
    "simplify": "Whether ONNX files are simplified by onnxslim.",
    "calibration": "The images that int8 is calibrated with.",
    "int8": "How int8 finds its scales, and which layers stay in fp32.",
    "keep_fp32": "Layers that stay in fp32 in every lower precision, with * and ?.",
    "runtime_options": "Options of the runtimes, by runtime.",
    "exclude": "Combinations that are left out.",
    "include": "Combinations that are added, after what is excluded.",
    "verify": "When an engine counts as the same detector as PyTorch.",
    "measure": "How speed is measured.",
    "compare": "How engines are ranked side by side; false: not at all.",
    "racing": "Whether evaluate stops engines that lose too much AP for sure.",
    "limits": "How long a step may take by stage, and how much memory it may use.",
    "mlflow": "What goes to MLflow beside figures.",
    "results": "Where results go: a folder, or s3://, gs:// or az://.",
    "folder": "Where relative paths start; by default in the folder of this file.",
}
"""What each key of a matrix is for; `docs/matrix.md` says more."""

_VARIABLE = {"type": "string", "pattern": r"\$\{"}


def json_schema() -> dict[str, Any]:
    """Return the schema, with the models, data sets and runtimes of other packages."""
    schema = MatrixSpec.model_json_schema()
    for name, text in KEYS.items():
        schema["properties"][name]["description"] = text
    dataset = schema["properties"]["dataset"]
    schema["properties"]["dataset"] = {
        "description": dataset.pop("description"),
        "anyOf": [dataset, {"const": "config"}],
    }
    selection = schema["$defs"]["SelectionSpec"]["properties"]
    selection.update(_by_word(selection))
    found: dict[str, Any] = _with_variables(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "Matrix"}


def _by_word(axes: dict[str, Any]) -> dict[str, Any]:
    """The axes of a rule by both names, each with a list or a single value."""
    either = {}
    for name, axis in axes.items():
        lists = next(one for one in axis["anyOf"] if one["type"] == "array")
        either[name] = {"anyOf": [lists, lists["items"]]}
    return either | {one: either[many] for one, many in PLURALS.items()}


def _with_variables(schema: Any) -> Any:
    """Let a variable stand for every number and switch: `limit: ${LIMIT}`."""
    if isinstance(schema, list):
        return [_with_variables(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "enum" in schema or schema.get("type") in ("integer", "number", "boolean"):
        about = {
            name: schema[name] for name in ("title", "description", "default") if name in schema
        }
        return {**about, "anyOf": [{k: v for k, v in schema.items() if k not in about}, _VARIABLE]}
    return {name: _with_variables(value) for name, value in schema.items()}
