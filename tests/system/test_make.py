"""`make` makes an environment whole or not at all, whatever went wrong the time before."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from tests.support.serving import PATIENCE

ROOT = Path(__file__).parents[2]

INTERPRETER = """\
#!/bin/sh
# Makes environments as python -m venv does, or breaks off; asked anything else it is Python.
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin"
  printf '#!/bin/sh\\necho "$@" >> "%s/pip.log"\\n' "$3" > "$3/bin/python"
  chmod +x "$3/bin/python"
  exit {code}
fi
exec {python} "$@"
"""


def interpreter(folder: Path, code: int) -> Path:
    """Write an interpreter whose `-m venv` ends with `code`."""
    path = folder / f"python-{code}"
    path.write_text(INTERPRETER.format(code=code, python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def make(python: Path, venv: Path) -> subprocess.CompletedProcess[str]:
    """Run `make environment`; MAKEFLAGS of a make around the tests are not its."""
    return subprocess.run(
        ["make", "environment", f"PYTHON={python}", f"VENV={venv}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_an_environment_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    assert make(interpreter(tmp_path, 1), venv).returncode == 2
    assert not venv.exists()
    assert make(interpreter(tmp_path, 0), venv).returncode == 0
    assert "install" in (venv / "pip.log").read_text()


def test_a_half_environment_is_completed(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text("#!/bin/sh\necho 'No module named pip'; exit 1\n")
    (venv / "bin" / "python").chmod(0o755)
    assert make(interpreter(tmp_path, 0), venv).returncode == 0
    assert "install" in (venv / "pip.log").read_text()


def test_what_was_there_before_is_not_deleted(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    (venv / "mine").touch()
    assert make(interpreter(tmp_path, 1), venv).returncode == 2
    assert (venv / "mine").exists()


def test_python_without_venv_names_the_package(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    done = make(bare, tmp_path / "venv")
    assert done.returncode == 2
    assert "apt-get install python3-venv" in done.stderr
    assert not (tmp_path / "venv").exists()
