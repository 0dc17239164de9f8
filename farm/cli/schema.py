"""`farm schema`: the JSON schema of a matrix, by which editors complete and check it."""

from __future__ import annotations

import argparse
import json


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm schema`."""
    parser.description = (
        "Print the JSON schema of a matrix. An editor that has it (VS Code by its extension for"
        " YAML) completes keys and marks mistakes while you write: let the matrix begin with"
        " `# yaml-language-server: $schema=matrix.schema.json`."
    )
    parser.set_defaults(command=schema)


def schema(options: argparse.Namespace) -> int:
    """Print the schema. Returns 0."""
    from farm.config.editors import json_schema

    print(json.dumps(json_schema(), indent=1))
    return 0
