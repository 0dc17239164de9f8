"""Watches what a model is made of while its own code runs: files, modules, variables.

    with watching(model, folder / used.FILE):
        ...                                     the config is read, the model built

Everything that Python opens, lists or asks for is seen, in child processes by fork too, and is
written down at once, so that a process that dies leaves what it had used so far. What native code
opens by itself cannot be seen.
"""

from farm.sources.watch.hooks import watching

__all__ = ["watching"]
