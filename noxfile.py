"""The fast tests on every Python that the package says it runs on, without torch and mmcv.

    nox                 all of them (`make pythons` brings nox itself)
    nox -s tests-3.13   one

uv brings the interpreters that are not installed, where it may download them; one that cannot be
had is skipped, and named. The tests with mmcv run on the Python that tools/setup.py builds it for.
"""

import nox

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# Of the extra `mmdet`, what tests of the core need: to draw images, and to read what is drawn.
LIGHT = ("onnx", "opencv-python-headless", "pillow", "pycocotools", "scipy")

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Everything but what is marked slow; test modules that import torch or mmdet are left out."""
    session.install("-c", "constraints.txt", ".[onnxruntime,remote,report,dev]", *LIGHT)
    session.run("python", "-m", "pytest", "-m", "not slow", *session.posargs)
