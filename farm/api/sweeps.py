"""From a matrix to its results: load, plan and run it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from farm.api.given import PathLike, place

if TYPE_CHECKING:
    from farm.config.loader import Matrix
    from farm.plan.steps import Plan
    from farm.sweep import Sweep


def load_matrix(path: PathLike, overrides: Iterable[str] = ()) -> Matrix:
    """Read a matrix file, and expand its cells.

    Args:
        path: The YAML file.
        overrides: Values that replace those of the file, as `opsets=[17]`, `dataset.limit=100`.

    Returns:
        The matrix: its `name`, its `cells` (each has an `id`), and its values as `spec`.

    Raises:
        InputError: It cannot be read, or something in it is wrong: every mistake, with its line.
    """
    from farm.config import loader

    return loader.load_matrix(path, tuple(overrides))


def plan(
    matrix: Matrix | PathLike, overrides: Iterable[str] = (), *, results: PathLike | None = None
) -> Plan:
    """Plan a matrix: which steps its cells need. Nothing runs.

    Args:
        matrix: A matrix, or the path of its file.
        overrides: As of `load_matrix`, for a path.
        results: Where results are; what earlier checks found of the models is read from there.

    Returns:
        The plan: `cells`, each with the key of its step of each stage; `steps` by key; `missing`,
        the files that a run would need and that are not there.

    Raises:
        InputError: As `load_matrix`; or a target is not known.
    """
    from farm.cli.results import results_of
    from farm.engine.known import tried_again
    from farm.engine.workers.limits import limits_of
    from farm.plan import make_plan
    from farm.store.facts import facts_from

    loaded = _loaded(matrix, overrides)
    store = results_of(place(results), loaded, only_read=True).store()
    again = tried_again(limits_of(loaded.spec.limits))
    return make_plan(loaded, facts_from(store, again=again))


def run(
    matrix: Matrix | PathLike,
    overrides: Iterable[str] = (),
    *,
    results: PathLike | None = None,
    executor: Literal["ray", "inline"] = "ray",
    address: str | None = None,
    retry_failed: bool = False,
    mlflow: bool = True,
) -> Sweep:
    """Run a matrix. What was done before is not done again.

    Ctrl-C stops it: finished steps are kept, and the next run goes on from there.

    Args:
        matrix: A matrix, or the path of its file.
        overrides: As of `load_matrix`, for a path.
        results: Where results go.
        executor: `inline` runs one step after another on this machine, without Ray.
        address: Of a Ray cluster; by default RAY_ADDRESS, else a local one is started.
        retry_failed: Whether recorded failures are tried once more.
        mlflow: Whether the results are logged to MLflow, too.

    Returns:
        The sweep: its `rows` of the leaderboard as mappings, one for each cell, `interrupted`, and
        `exit_code`, which is 0 if every cell ended well.

    Raises:
        InputError: As `load_matrix`; or a file that is needed is missing or wrong.
        ClusterLost: Ray does not answer any more; finished steps are kept.
    """
    from farm.cli.results import results_of
    from farm.engine.executors import Choices
    from farm.errors import InputError, nearest
    from farm.sweep import run_sweep

    if executor not in ("ray", "inline"):
        known = nearest(str(executor), ("ray", "inline"))
        raise InputError(f"unknown executor {executor!r}{known}", "executor")
    loaded = _loaded(matrix, overrides)
    choices = Choices(executor, address, retry_failed, mlflow)
    return run_sweep(loaded, results_of(place(results), loaded), choices)


def _loaded(matrix: Matrix | PathLike, overrides: Iterable[str]) -> Matrix:
    from farm.config.loader import Matrix
    from farm.errors import InputError

    if not isinstance(matrix, Matrix):
        return load_matrix(matrix, overrides)
    if tuple(overrides):
        raise InputError("overrides are of a matrix's file: give them to `load_matrix`")
    return matrix
