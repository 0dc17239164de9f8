"""Compare the ONNX files that two checkouts of the farm write for the models of the table.

    cd OLD && python tools/compare_exports.py write old.jsonl [--opset N ...] [--family NAME ...]
    cd NEW && python tools/compare_exports.py write new.jsonl [--opset N ...] [--family NAME ...]
    python tools/compare_exports.py compare old.jsonl new.jsonl

Both with the same OMP_NUM_THREADS: rounding in the random weights depends on the threads. With
`--weights DIR` the second takes those that the first has made, which is a third of the time.

A change that only moves or renames the exporter's code gives it another digest, and every record of
`farm models` would count as an older exporter's. Where all files are equal byte for byte, the two
digests may be listed as one group in farm/models/exporters.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.models.families import Family

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="export, and write a line for each file")
    write.add_argument("out", type=Path)
    write.add_argument("--opset", type=int, action="append", help="default: 17")
    write.add_argument("--family", action="append", help="default: every family of the table")
    write.add_argument("--weights", type=Path, help="a folder for the weights, used again")
    compare = commands.add_parser("compare", help="say which files differ; exit code 1 if any")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        return _compare(arguments.old, arguments.new)
    _write(arguments.out, arguments.opset or [17], arguments.family or [], arguments.weights)
    return 0


def _write(out: Path, opsets: list[int], names: list[str], kept: Path | None) -> None:
    """Go on in `out` from where an earlier run stopped."""
    from farm.models import families, records

    done = {(line["family"], line["opset"]) for line in _lines(out)}
    with out.open("a") as file:
        for family in families.chosen(names):
            wanted = [opset for opset in opsets if (family.name, opset) not in done]
            if not wanted:
                continue
            for opset, digest in _digests(family, wanted, kept):
                line = {"family": family.name, "opset": opset, "file": digest}
                print(json.dumps(line | {"exporter": records.exporter()}), file=file, flush=True)


def _digests(family: Family, opsets: list[int], kept: Path | None) -> Iterator[tuple[int, str]]:
    """Yield (opset, sha256 of the dynamic file, or why there is none).

    kept: a folder of weights, where those of the family are made if they are not there.
    """
    from farm import specs
    from farm.errors import FarmError
    from farm.sources import mmdet
    from farm.sources.mmdet import random_weights

    with tempfile.TemporaryDirectory() as folder:
        weights, path = Path(kept or folder, f"{family.name}.pth"), Path(folder, "model.onnx")
        model = family.model(str(weights))
        largest = replace(family.shape, n=2)
        shape = specs.Shape("dynamic", family.shape, family.shape, largest)
        try:
            if not weights.exists():
                part = Path(folder, "model.pth")
                into = replace(model, checkpoint=specs.File(str(part), ""))
                random_weights.write(into, family.layer_outputs, family.shape, family.seed)
                shutil.move(part, weights)
            detector = mmdet.load(model)
        except FarmError as error:
            yield from ((opset, f"refused: {error}") for opset in opsets)
            return
        for opset in opsets:
            try:
                mmdet.export_onnx(detector, shape, opset, path)
            except FarmError as error:
                yield opset, f"refused: {error}"
            else:
                yield opset, hashlib.sha256(path.read_bytes()).hexdigest()


def _compare(old: Path, new: Path) -> int:
    before, after = ({(x["family"], x["opset"]): x for x in _lines(path)} for path in (old, new))
    both = before.keys() & after.keys()
    unequal = sorted(key for key in both if before[key]["file"] != after[key]["file"])
    for name, opset in unequal:
        print(f"{name} at opset {opset} differs")
    exporters = sorted({line["exporter"] for line in (*before.values(), *after.values())})
    print(f"{len(both) - len(unequal)} of {len(both)} files are equal; exporters {exporters}")
    return 1 if unequal or not both else 0


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    raise SystemExit(main())
