"""Executed by a foreign interpreter, by path: makes this folder the package `forkserve_foreign`, and runs it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

PACKAGE = "forkserve_foreign"


def start() -> int:
    """Import the folder as a package and run its command line; returns the exit code."""
    folder = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0]) == folder:
        del sys.path[0]  # or the application would import our modules
    init = os.path.join(folder, "__init__.py")
    spec = importlib.util.spec_from_file_location(PACKAGE, init, submodule_search_locations=[folder])
    assert spec is not None and spec.loader is not None
    sys.modules[PACKAGE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code: int = importlib.import_module(PACKAGE + ".run").main()
    return code


if __name__ == "__main__":
    sys.exit(start())
