"""The part of the hot path that is compiled: exact shortcuts of Python code that stays beside them.

Rules. C takes the requests without surprises: a head that asks for nothing unusual, an answer of one piece. Whatever
is not so goes to the method in Python that the shortcut stands for, so nothing is decided twice. Where there was no
compiler, or `FORKSERVE_PURE` is set in the environment, `hot` is None and everything goes the way in Python; the tests
of the engine run over both. Why, and what it was worth: docs/adr/0010-a-compiled-hot-path.md.

A compiled module that was built from an older tree (an editable installation after `git pull`) would fail at the first
request, where the two sides disagree. So both have the number of their interface, which is compared once, at import.
"""

from __future__ import annotations

import importlib
import logging
import os
from types import ModuleType

__all__ = ["INTERFACE", "PURE", "hot"]

log = logging.getLogger("forkserve.worker")

INTERFACE = 2
"""What C and Python expect of each other; module.c has the same number. A test tells when to raise both."""

PURE = bool(os.environ.get("FORKSERVE_PURE"))
"""Whether the way in Python is asked for."""


REBUILD = "to build it: `pip install --no-deps -e .` in the source tree"


def _load() -> ModuleType | None:
    if PURE:
        return None
    try:
        module = importlib.import_module("forkserve.serving.native._hot")
    except ModuleNotFoundError:
        return None
    except ImportError as error:
        log.warning("the compiled part cannot be loaded (%s), so requests take longer; %s", error, REBUILD)
        return None
    if getattr(module, "INTERFACE", 0) == INTERFACE:
        return module
    log.warning(
        "the compiled part (%s) is of another version than this forkserve, so requests take longer without it; %s",
        module.__file__, REBUILD,
    )  # fmt: skip
    return None


hot = _load()
"""The compiled module, if it is there and wanted."""
