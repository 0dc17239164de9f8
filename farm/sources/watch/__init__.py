"""Watches what a model is made of while its own code runs: files, modules, variables.

    with watching(model, folder / used.FILE):
        ...                                     the config is read, the model built

Everything that Python opens, lists or queries is recorded, also in forked child processes. Each
record is written at once, so that a process that dies still leaves a list of what it had used.
Files that native code opens by itself cannot be observed.
"""

from farm.sources.watch.hooks import watching

__all__ = ["watching"]
