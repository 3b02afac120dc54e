"""`forkserve-worker --install-backend meinheld`: fetch the source, patch it, build it, test it, and only then install
it.

Rules: everything happens in a temporary folder with its own environment until the contract passes; only the last
step touches the environment of this interpreter. The source comes from the package index that pip is configured for,
and its setup.py runs only after its sha256 has been checked. Only meinheld, greenlet and setuptools are requested from
the index.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from forkserve.backends.meinheld.contract import ContractError, check_build
from forkserve.backends.meinheld.edits import EDITS, LOCAL_VERSION, UPSTREAM_VERSION, Edit, apply_edits
from forkserve.errors import BackendError

__all__ = ["SDIST_SHA256", "install", "missing_tool"]

SDIST_SHA256 = "008c76937ac2117cc69e032dc69cea9f85fc605de9bac1417f447c41c16a56d6"
_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")

Say = Callable[[str], None]


def install(say: Say, *, edits: Sequence[Edit] = EDITS) -> None:
    """Build and install the patched meinheld for this interpreter, reporting each step to `say`.

    Raises BackendError with one line if anything is missing or fails; then nothing has been installed.
    """
    lacking = missing_tool(
        implementation=platform.python_implementation(),
        system=platform.system(),
        pip=find_spec("pip") is not None,
        compiler=_compiler(),
        header=Path(sysconfig.get_path("include"), "Python.h").exists(),
    )
    if lacking is not None:
        raise BackendError(lacking)
    say(
        f"meinheld {UPSTREAM_VERSION} with forkserve's {len(edits)} edits: for compatibility, behind a proxy, never as "
        "a default. The crashes that are known are mended; expect others (docs/meinheld.md)."
    )
    with tempfile.TemporaryDirectory(prefix="forkserve-meinheld-") as name:
        wheel = _build(Path(name), say, edits)
        say(f"installing {wheel.name}")
        _pip(sys.executable, ["install", "--force-reinstall", "--no-deps", str(wheel)], "the installation failed")
        _pip(sys.executable, ["install", "greenlet>=2"], "the installation of greenlet failed")
    say(f"meinheld {LOCAL_VERSION} is installed in {sys.prefix}; serve with: forkserve-worker --backend meinheld ...")


def missing_tool(*, implementation: str, system: str, pip: bool, compiler: str | None, header: bool) -> str | None:
    """Return what this machine lacks for a build, and how to get it; None if nothing."""
    if implementation != "CPython":
        return f"meinheld is an extension for CPython, this is {implementation}"
    if system != "Linux":
        return f"the mended meinheld is built and tested on Linux only, this is {system}"
    if not pip:
        return (
            f"{sys.executable} has no pip, which fetches and installs meinheld; add it with `uv pip install pip` "
            f"(an environment made by uv) or `{sys.executable} -m ensurepip`"
        )
    if compiler is None:
        return "no C compiler: meinheld is an extension in C; on Debian and Ubuntu: apt-get install gcc"
    if not header:
        return "no Python.h: the headers of this Python are missing; on Debian and Ubuntu: apt-get install python3-dev"
    return None


def _compiler() -> str | None:
    command = os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc")
    return shutil.which(command.split()[0])


def _build(folder: Path, say: Say, edits: Sequence[Edit]) -> Path:
    """Return a wheel, built in `folder`, that passes the contract."""
    say("making a throw-away environment with setuptools and greenlet")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    _pip_for(python, ["install", "setuptools", _greenlet()], "cannot fetch setuptools and greenlet")
    say(f"fetching the source of meinheld {UPSTREAM_VERSION} from the package index")
    source = _unpack(_fetch(python, folder), folder)
    say("editing and compiling it")
    _edit(source, _header(python), edits)
    wheels = folder / "wheels"
    _pip_for(
        python,
        ["wheel", "--no-build-isolation", "--no-deps", "--no-cache-dir", "--wheel-dir", str(wheels), str(source)],
        "the compilation failed",
    )
    (wheel,) = wheels.glob("*.whl")
    _pip_for(python, ["install", "--no-deps", str(wheel)], "the new wheel cannot be installed")
    say("testing it before it is installed")
    log = folder / "server.log"
    try:
        with log.open("wb") as errors:
            count = check_build(python, errors)
    except ContractError as error:
        raise ContractError(f"the build does not pass its test and was not installed: {error}") from None
    say(f"passed {count} checks")
    return wheel


def _greenlet() -> str:
    """Return the requirement for the greenlet version that the wheel will run with."""
    try:
        version = metadata.version("greenlet")
    except metadata.PackageNotFoundError:
        return "greenlet>=2"
    return f"greenlet=={version}" if int(version.split(".")[0]) >= 2 else "greenlet>=2"


def _fetch(python: Path, folder: Path) -> Path:
    """Download the source distribution and return its path, with its hash checked (by pip, before setup.py runs)."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"meinheld=={UPSTREAM_VERSION} --hash=sha256:{SDIST_SHA256}\n")
    _pip_for(
        python,
        (
            *("download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes"),
            *("--dest", str(folder), "--requirement", str(requirements)),
        ),
        f"cannot fetch the source of meinheld {UPSTREAM_VERSION}",
    )
    found = sorted(folder.glob("meinheld-*.tar.gz"))
    if not found or hashlib.sha256(found[0].read_bytes()).hexdigest() != SDIST_SHA256:
        raise BackendError(f"the package index gave another meinheld {UPSTREAM_VERSION} than the known one (sha256)")
    return found[0]


def _unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        # 3.11.4 and later know filters; the archive's hash is known, so earlier ones are safe as well.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder / "source")
    return folder / "source" / f"meinheld-{UPSTREAM_VERSION}"


def _header(python: Path) -> str:
    """Return the greenlet.h of the environment's greenlet."""
    found = sorted(python.parent.parent.glob("lib/python*/site-packages/greenlet/greenlet.h"))
    if not found:
        raise BackendError("this greenlet brings no greenlet.h; install greenlet from its wheel or source")
    return found[0].read_text()


def _edit(source: Path, header: str, edits: Sequence[Edit]) -> None:
    """Apply the edits to the files below `source`, and put the current greenlet.h in place of the bundled one."""
    names = sorted({edit.file for edit in edits})
    texts = {name: (source / name).read_text() for name in names if (source / name).exists()}
    for name, text in apply_edits(texts, edits).items():
        (source / name).write_text(text)
    (source / "meinheld" / "server" / "greenlet.h").write_text(header)


def _pip_for(python: Path, arguments: Sequence[str], failure: str) -> None:
    """Run this interpreter's pip for another environment."""
    _pip(sys.executable, ["--python", str(python), *arguments], failure)


def _pip(python: str, arguments: Sequence[str], failure: str) -> None:
    """Run pip; raise BackendError with `failure` and pip's own last words."""
    done = subprocess.run([python, *_PIP, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise BackendError(f"{failure}: {_reason(done.stderr)}")


def _reason(text: str) -> str:
    """Return the line of a tool's output that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and "subprocess-exited" not in line]
    network = [line for line in lines if "Connection" in line or "resolve" in line or "timed out" in line.lower()]
    if network or "from versions: none" in text:
        return f"no way to the package index, or it has nothing ({(network or errors)[-1][:200]})"
    return (errors or lines or ["pip gave no reason"])[0][:300]
