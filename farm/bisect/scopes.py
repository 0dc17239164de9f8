"""The PyTorch module that a node's name tells, as torch's exporter writes names."""

from __future__ import annotations


def module_of(node: str) -> str:
    """Return the module in whose forward a node was traced: `backbone.layer1.0.conv1` of
    `/backbone/layer1/layer1.0/conv1/Conv`; '' where the name tells none.

    A module inside a Sequential has the name of that in its own (`layer1.0`), so that the part
    before it is the same again.
    """
    if not node.startswith("/"):
        return ""
    found: list[str] = []
    for part in node[1:].split("/")[:-1]:
        if found and part.startswith(f"{found[-1]}."):
            found[-1] = part
        else:
            found.append(part)
    return ".".join(found)


def in_users_model(module: str) -> str:
    """Return the name that a module has in the user's own model: what is exported holds that as
    `model` (a detector of mmdet) or `module` (one that a function returns)."""
    first, _, rest = module.partition(".")
    return rest if rest and first in ("model", "module") else module
