"""Runs many lines of the real circusctl in one process, since its start takes longer than its work.

Reads a JSON list of words from each line of standard input, and prints a JSON object with exit, out and err for it.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys


def main() -> None:
    """Run line after line until the input ends."""
    from circus import circusctl  # type: ignore[import-untyped]

    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        sys.argv = ["circusctl", *json.loads(line)]
        code: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                circusctl.main()
            except SystemExit as end:
                code = end.code or 0
        print(json.dumps({"exit": code, "out": out.getvalue().strip(), "err": err.getvalue().strip()}), flush=True)


if __name__ == "__main__":
    main()
