"""Runs tests and fuzzers over the compiled part with the address and the undefined-behaviour sanitizer.

`python -m tests.fuzz.sanitize [--seconds 30] [--quick] [-- PYTEST ARGUMENT ...]`, or `make sanitize`.

Rules: a copy of the tree is made below build/, and the compiled part is built there; the environment's own build is
never touched. Whatever any process reports (a worker, a forked child) goes to a folder, and one report fails the run.
Python itself is not instrumented: its allocator is malloc here, so that each object has red zones. Leaks are not looked
for, since an interpreter leaves most of its memory to the kernel when it ends.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Sanitized", "main"]

ROOT = Path(__file__).parents[2]
FOLDER = Path("build") / "sanitize"
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "results", "*.so", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"
)
WARNINGS = ["-Wall", "-Wextra", "-Wno-missing-field-initializers"]
FLAGS = ["-shared", "-fPIC", "-g", "-O1", "-fno-omit-frame-pointer", *WARNINGS]
CHECKS = ["-fsanitize=address,undefined", "-fsanitize-undefined-trap-on-error"]
"""gcc's runtime of the second writes to stderr alone: a trap has the first one report it, where it reports all else."""
NO_STACKS = ["--param", "asan-stack=0"]
"""greenlet moves frames about on the stack, which the sanitizer takes for writes beyond their variables."""
TESTS = ["tests/property", "tests/contract", "-m", "not slow"]
QUICK = [
    "tests/property/test_compiled_heads.py", "tests/contract/test_compiled.py", "tests/contract/test_out_of_memory.py",
    "-m", "not slow",
]  # fmt: skip


class Sanitized:
    """A copy of the tree with an instrumented compiled part, and what runs over it."""

    def __init__(self, folder: Path, *, stacks: bool) -> None:
        self.tree = folder / "tree"
        self.reports = folder / "reports"
        self._stacks = stacks

    def build(self) -> None:
        """Copy and compile; raises CalledProcessError if the compiler refuses."""
        shutil.rmtree(self.tree, ignore_errors=True)
        shutil.rmtree(self.reports, ignore_errors=True)
        shutil.copytree(ROOT, self.tree, ignore=LEFT_OUT, symlinks=True)
        self.reports.mkdir(parents=True)
        compiled = self.tree / "forkserve" / "serving" / "native"
        self.compile(sorted(compiled.glob("*.c")), compiled / ("_hot" + str(sysconfig.get_config_var("EXT_SUFFIX"))))

    def compile(self, sources: Sequence[Path], target: Path) -> None:
        """Make an instrumented library; raises CalledProcessError."""
        checks = CHECKS if self._stacks else [*CHECKS, *NO_STACKS]
        include = f"-I{sysconfig.get_paths()['include']}"
        subprocess.run([_compiler(), *FLAGS, *checks, include, *map(str, sources), "-o", str(target)], check=True)

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs to run with it."""
        asan = "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16:abort_on_error=1:handle_sigill=1"
        return {
            **os.environ,
            "PYTHONPATH": str(self.tree),
            "PYTHONMALLOC": "malloc",
            # greenlet throws: ASan has to find the function beneath its own when it starts.
            "LD_PRELOAD": f"{_library('libasan.so')} {_library('libstdc++.so.6')}",
            "ASAN_OPTIONS": f"{asan}:log_path={self.reports}/report",
        }

    def run(self, words: Sequence[str]) -> int:
        """Run a Python command in the copy; return its exit status."""
        print("==", "python", *words, flush=True)
        return subprocess.run([sys.executable, *words], cwd=self.tree, env=self.environ, check=False).returncode

    def found(self) -> list[str]:
        """Return what the sanitizers have reported so far.

        A warning alone is none: a child that goes back to its parent's stack by longjmp() (orphan.c) leaves one.
        """
        texts = [path.read_text(errors="replace") for path in sorted(self.reports.iterdir())]
        return [text for text in texts if "ERROR: " in text or "runtime error: " in text]


def _compiler() -> str:
    found = os.environ.get("CC") or shutil.which("gcc")
    if found is None:
        sys.exit("sanitize: there is no gcc; on Debian: apt-get install gcc")
    return found


def _library(name: str) -> str:
    """Where the compiler has a library of its own."""
    said = subprocess.run([_compiler(), f"-print-file-name={name}"], stdout=subprocess.PIPE, text=True, check=True)
    path = said.stdout.strip()
    if not os.path.isabs(path):
        sys.exit(f"sanitize: {_compiler()} has no {name}; on Debian it comes with gcc")
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.sanitize", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each fuzzer runs")
    parser.add_argument("--seed", type=int, default=None, help="what the fuzzers begin with")
    parser.add_argument("--quick", action="store_true", help="the tests of the compiled part alone, not all contracts")
    parser.add_argument("--no-tests", action="store_true", help="the fuzzers alone")
    parser.add_argument(
        "pytest", nargs="*", metavar="ARGUMENT", help="what pytest is given in place of the tests chosen here"
    )
    return parser.parse_args()


def _works(chosen: argparse.Namespace) -> list[tuple[bool, list[str]]]:
    """What is run: whether with red zones on the stack, and the words."""
    pytest = [
        "-m",
        "pytest",
        "-p",
        "no:faulthandler",
        "-p",
        "no:cacheprovider",
        "--timeout",
        "300",
        "-q",
        "-n",
        "2",
        "--dist",
        "worksteal",
    ]
    tests = chosen.pytest or (QUICK if chosen.quick else TESTS)
    fuzz = [
        "-m",
        "tests.fuzz",
        "--seconds",
        str(chosen.seconds),
        *(["--seed", str(chosen.seed)] if chosen.seed else []),
    ]
    works = [
        (True, [*fuzz, "compiled"]),
        (True, [*fuzz, "workers", "--backend", "sync", "--backend", "threads", "--backend", "asgi"]),
        (False, [*fuzz, "workers", "--backend", "gevent"]),
    ]
    if not chosen.no_tests:
        works[:0] = [(True, [*pytest, *tests, "-k", "not gevent"]), (False, [*pytest, *tests, "-k", "gevent"])]
    return works


def main() -> int:
    chosen = arguments()
    builds = {
        stacks: Sanitized(ROOT / FOLDER / ("stacks" if stacks else "greenlets"), stacks=stacks)
        for stacks in (True, False)
    }
    for build in builds.values():
        build.build()
    failed = [" ".join(words) for stacks, words in _works(chosen) if builds[stacks].run(words) not in (0, 5)]
    reports = [report for build in builds.values() for report in build.found()]
    for report in reports:
        print(report)
    for words in failed:
        print(f"FAILED: python {words}")
    print(f"sanitize: {len(failed)} of the runs failed, {len(reports)} reports of a sanitizer")
    return 1 if failed or reports else 0


if __name__ == "__main__":
    sys.exit(main())
