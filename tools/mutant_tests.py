"""Which tests reach a mutant, as the data of `make coverage` says."""

from __future__ import annotations

from pathlib import Path

from mutations import ROOT, Mutant


class Reach:
    """Which tests reach a line, as the last `make coverage` saw it."""

    def __init__(self, data: Path) -> None:
        from coverage import CoverageData

        self._data = CoverageData(str(data))
        self._data.read()
        self._files = {path.stem: path for path in sorted((ROOT / "tests").rglob("test_*.py"))}
        self._texts = {path: path.read_text() for path in self._files.values()}

    def tests(self, mutant: Mutant) -> list[str]:
        """For pytest: the test functions, and of lines that also run outside of them (at import, in
        fixtures, in processes of their own) the files of the package's own folder and those that
        import the module. The functions come first, and those of the own folder before others:
        they say soonest what is wrong."""
        lines = self._data.contexts_by_lineno(str(ROOT / mutant.path))
        contexts = lines.get(mutant.line, [""])
        found = {test for one in contexts if (test := self._test(one))}
        own = f"tests/{Path(mutant.path).parts[1]}/"
        if "" in contexts:
            found |= {*self._importing(mutant.path), own}
        return sorted(found, key=lambda one: ("::" not in one, own not in one, "fuzz" in one, one))

    def slow(self, mutant: Mutant) -> list[str]:
        """The files with slow tests in the package's own folder: those that import the module, and
        for a line that no other test function reaches, all."""
        own = ROOT / "tests" / Path(mutant.path).parts[1]
        found = [
            str(path.relative_to(ROOT))
            for path, text in self._texts.items()
            if path.parent == own and "mark.slow" in text
        ]
        contexts = self._data.contexts_by_lineno(str(ROOT / mutant.path)).get(mutant.line, ())
        reached, importing = any(map(self._test, contexts)), self._importing(mutant.path)
        return [path for path in found if path in importing or not reached]

    def _test(self, context: str) -> str | None:
        module, _, function = context.rpartition(".")
        path = self._files.get(module.rpartition(".")[2])
        # One that was renamed since would end pytest, which is no notice of a mutant.
        known = path and f"def {function}(" in self._texts[path]
        return f"{path.relative_to(ROOT)}::{function}" if path and known else None

    def _importing(self, path: str) -> list[str]:
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        package, _, name = module.rpartition(".")
        signs = (module, f"from {package} import", f"import {name}")
        return [
            str(test.relative_to(ROOT))
            for test, text in self._texts.items()
            if signs[0] in text or (signs[1] in text and name in text.split(signs[1])[1][:200])
        ]
