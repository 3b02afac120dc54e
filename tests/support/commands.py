"""Runs a command of ours within the process of the test: an interpreter takes longer to start than most of them to run.

A few tests of each command start it as a shell would; the others ask what it says.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from forkserve.cli.ctl import main as forkservectl

__all__ = ["ctl", "run_main"]


def run_main(
    main: Callable[[Sequence[str]], int], *argv: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `main` as if in this folder, with this environment or that of the test; not for several threads at once."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.chdir(cwd), _environ(env), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(argv)
    return subprocess.CompletedProcess(argv, code, *(each.buffer.getvalue().decode() for each in (out, err)))


def ctl(cwd: Path, *argv: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run forkservectl."""
    return run_main(forkservectl, *argv, cwd=cwd, env=env)


@contextlib.contextmanager
def _environ(env: Mapping[str, str] | None) -> Iterator[None]:
    before = dict(os.environ)
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
