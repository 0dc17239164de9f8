"""Artifacts and records are torn, changed, removed, or exchanged behind the farm's back."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from chaos.faults.fault import Fault
from chaos.scene import NoTarget, Scene

RECORD = "record.json"


def truncate(scene: Scene, path: Path) -> None:
    """Leave the first part of it, as a full disk does."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(scene.rng.randrange(size) if size else 0)


def flip(scene: Scene, path: Path) -> None:
    """Change some of its bits."""
    data = bytearray(path.read_bytes())
    for _ in range(scene.rng.randint(1, 8)):
        data[scene.rng.randrange(len(data))] ^= 1 << scene.rng.randrange(8)
    path.write_bytes(data)


def remove(scene: Scene, path: Path) -> None:
    """Remove it, or all of its artifact."""
    if scene.rng.random() < 0.5:
        shutil.rmtree(path.parent, ignore_errors=True)
    else:
        path.unlink()


def alter(how: str, record: bool, scene: Scene) -> str:
    """Alter a file of a finished step, or its record."""
    path = _drawn(scene, record)
    try:
        if how == "swap":
            return _swapped(scene, path)
        {"truncate": truncate, "flip": flip, "remove": remove}[how](scene, path)
    except FileNotFoundError:  # it was made anew at this moment
        raise NoTarget(f"{path} has gone") from None
    scene.altered.append(_key(scene, path))
    return f"{how}: {path.relative_to(scene.store)}"


def _swapped(scene: Scene, path: Path) -> str:
    """Exchange the file with the one of the same name of another step of the same stage."""
    name = path.relative_to(_artifact(scene, path))
    stage = scene.store / path.relative_to(scene.store).parts[0]
    others = [one for one in sorted(stage.glob(f"*/*/{name}")) if one != path]
    if not others:
        raise NoTarget(f"no other {name}")
    other = scene.rng.choice(others)
    kept = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    scene.altered += [_key(scene, path), _key(scene, other)]
    return f"swap: {path.relative_to(scene.store)} and {other.relative_to(scene.store)}"


def _drawn(scene: Scene, record: bool) -> Path:
    records = sorted(scene.store.glob(f"*/*/*/{RECORD}"))
    if not records:
        raise NoTarget("nothing is done yet")
    chosen = scene.rng.choice(records)
    if record:
        return chosen
    files = [
        path
        for path in sorted(chosen.parent.rglob("*"))
        if path.is_file() and path.name not in (RECORD, "checked.json") and path.stat().st_size
    ]
    if not files:
        raise NoTarget("it has no file")
    return scene.rng.choice(files)


def _artifact(scene: Scene, path: Path) -> Path:
    stage, digits, key = path.relative_to(scene.store).parts[:3]
    return scene.store / stage / digits / key


def _key(scene: Scene, path: Path) -> str:
    return _artifact(scene, path).name


FAULTS = tuple(
    Fault(
        f"{'record' if record else 'artifact'}-{how}", "artifact", partial(alter, how, record),
        ends=frozenset({1}), undone=True, alters=True, repeats=3, lasts=True, between=True,
    )
    for record in (False, True)
    for how in ("truncate", "flip", "remove", "swap")
)  # fmt: skip
