"""The part of the hot path that is compiled: exact shortcuts of Python code that stays beside them.

Rules. C takes the requests without surprises: a head that asks for nothing unusual, an answer of one piece. Whatever
is not so goes to the method in Python that the shortcut stands for, so nothing is decided twice. Where there was no
compiler, or `FORKSERVE_PURE` is set in the environment, `hot` is None and everything goes the way in Python; the tests
of the engine run over both. Why, and what it was worth: docs/adr/0010-a-compiled-hot-path.md.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

__all__ = ["PURE", "hot"]

PURE = bool(os.environ.get("FORKSERVE_PURE"))
"""Whether the way in Python is asked for."""


def _load() -> ModuleType | None:
    if PURE:
        return None
    try:
        return importlib.import_module("forkserve.serving.native._hot")
    except ImportError:
        return None


hot = _load()
"""The compiled module, if it is there and wanted."""
