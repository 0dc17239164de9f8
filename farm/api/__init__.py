"""The farm as a Python library: load a matrix, plan and run it, read the results, pick an engine.

    import farm

    farm.run("matrices/demo.yaml")
    table = farm.leaderboard(where=["runtime = openvino"])
    (pick,) = farm.best(target="cpu", model="onestage")
    print(pick.engine, pick.why)

The commands of the same names are built on the same functions. Here and there `results` is where
results are: a folder, or an address such as `s3://bucket/path`; by default the matrix's `results`,
else the variable FARM_RESULTS, else the folder `results`. Wrong input raises
`farm.errors.InputError`, whose text says what was expected and where. Messages go to the logger
`farm`: `logging.basicConfig(level="INFO")` shows them.

Importing this module is light; pandas, Ray and MLflow are imported by the functions that use them.
"""

from __future__ import annotations

from farm.api.results import Best, best, bundle, compare, leaderboard
from farm.api.sweeps import load_matrix, plan, run

__all__ = [
    "Best",
    "best",
    "bundle",
    "compare",
    "leaderboard",
    "load_matrix",
    "plan",
    "run",
]
