"""The JSON schema of a matrix: it takes what the loader takes, and marks what people get wrong."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml
from conftest import MATRIX, PROJECT

from farm.config.editors import KEYS, json_schema
from farm.config.schema import MatrixSpec


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    found = json_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def matrix(**values: Any) -> dict[str, Any]:
    return {**yaml.safe_load(MATRIX.format(demo="demo")), **values}


def test_every_key_is_explained() -> None:
    assert set(KEYS) == set(MatrixSpec.model_fields)


@pytest.mark.parametrize("name", sorted(one.name for one in (PROJECT / "matrices").glob("*.yaml")))
def test_every_matrix_of_the_project_is_valid(
    schema: jsonschema.Draft202012Validator, name: str
) -> None:
    text = (PROJECT / "matrices" / name).read_text()
    assert [*schema.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    "values",
    [
        {"int8": "auto"},
        {"int8": {"auto": True}},
        {"compare": False, "racing": True, "measure": {"throughput": 2}},
        {"dataset": "config"},
        {"dataset": {"type": "synthetic", "count": "${COUNT:-6}"}},
        {"exclude": [{"opset": 17, "runtime": "openvino"}, {"models": ["onestage"]}]},
        {"runtimes": [None, "openvino@2025.2"], "workspaces": ["1GiB"], "limits": {"check": "5m"}},
        {"targets": {"l4": {"accelerator": "L4", "driver": 580}}},
    ],
)
def test_what_the_loader_takes_is_valid(
    schema: jsonschema.Draft202012Validator, values: dict[str, Any]
) -> None:
    assert [error.message for error in schema.iter_errors(matrix(**values))] == []


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"opset": [17]}, []),
        ({"opsets": [9]}, ["opsets", 0]),
        ({"precisions": ["fp8"]}, ["precisions", 0]),
        ({"measure": {"second": 1}}, ["measure"]),
        ({"compare": "no"}, ["compare"]),
        ({"dataset": {"type": "coco"}}, ["dataset"]),
        ({"exclude": [{"opset": [[17]]}]}, ["exclude", 0, "opset"]),
        ({"verify": {"images": "four"}}, ["verify", "images"]),
    ],
)
def test_a_mistake_is_marked_at_its_place(
    schema: jsonschema.Draft202012Validator, values: dict[str, Any], path: list[Any]
) -> None:
    assert [list(error.path) for error in schema.iter_errors(matrix(**values))] == [path]
