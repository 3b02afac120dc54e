"""An option is declared once: a field of a slice is all that it takes, up to the backend that obeys it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import forkserve
from forkserve.backends.registry import find
from forkserve.config.options import names_of, option, options_of, read_value
from forkserve.config.serving import HttpLimits, ServingOptions, Timeouts
from forkserve.config.values import at_least, integer

PACKAGE = Path(forkserve.__file__).parent
FIELD = """\
    brand_new: int = option(7, "Something new.", parse=integer, check=at_least(3), cli=("--brand-new",), metavar="N")

    def effective("""
ENGINES = ("sync", "threads", "gevent", "asgi")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of forkserve with one more field in a slice, and no other change."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(PACKAGE, folder / "forkserve", ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "forkserve" / "config" / "serving.py"
    text = module.read_text()
    assert "    def effective(" in text
    module.write_text(text.replace("    def effective(", FIELD, 1))
    (folder / "app.py").write_text("def app(environ, start):\n    start('200 OK', [])\n    return []\n")
    return folder


def run(folder: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; from forkserve.cli.{program} import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_new_field_is_a_flag_of_the_worker_and_of_the_short_form(extended: Path) -> None:
    assert "--brand-new N" in run(extended, "worker", "--help").stdout
    assert "--brand-new N" in run(extended, "master", "--help").stdout
    assert "Something new." in run(extended, "master", "options", "brand_new").stdout
    printed = run(extended, "master", "--print-config", "--brand-new", "9", "app:app")
    assert "--brand-new" in printed.stdout


@pytest.mark.parametrize("program", ["worker", "master"])
def test_its_value_is_judged_by_its_declaration(extended: Path, program: str) -> None:
    for value, said in (("many", "expected an integer, got 'many'"), ("2", "must be at least 3, got 2")):
        done = run(extended, program, "--brand-new", value, "app:app")
        assert (done.returncode, f"--brand-new: {said}" in done.stderr) == (2, True), done.stderr


def test_the_engines_obey_it_without_being_told(extended: Path) -> None:
    rows = json.loads(run(extended, "worker", "--list-backends", "--json").stdout)
    honours = {row["name"]: row["honours"] for row in rows}
    assert all("brand_new" in honours[name] for name in ENGINES)
    assert "brand_new" not in honours["waitress"]
    done = run(extended, "worker", "--check", "--brand-new", "9", "app:app")
    assert (done.returncode, done.stderr) == (0, "")
    ignored = run(extended, "worker", "--check", "-k", "wsgiref", "--brand-new", "9", "app:app")
    assert "backend wsgiref does not know --brand-new; it is ignored" in ignored.stderr


def test_together_the_engines_obey_every_option_of_serving() -> None:
    obeyed = frozenset().union(*(find(name).traits.honours for name in ENGINES))
    assert obeyed == names_of(ServingOptions)


def test_every_option_of_serving_has_a_flag() -> None:
    slices = [each.default_factory for each in dataclasses.fields(ServingOptions)]
    assert all(each.cli for part in slices for each in options_of(part))  # type: ignore[arg-type]


def test_names_are_those_of_all_fields() -> None:
    @dataclasses.dataclass(frozen=True)
    class More(HttpLimits):
        another: int = option(1, "One more.")

    assert names_of(More) == names_of(HttpLimits) | {"another"}


def test_a_value_is_parsed_and_then_checked() -> None:
    assert read_value("3", integer, at_least(3)) == 3
    with pytest.raises(ValueError, match="expected an integer, got 'x'"):
        read_value("x", integer, at_least(3))
    with pytest.raises(ValueError, match="must be at least 3, got 2"):
        read_value("2", integer, at_least(3))


@pytest.mark.parametrize("part", [HttpLimits, Timeouts])
def test_what_a_zero_is_replaced_by_is_told_in_the_help(part: type[HttpLimits | Timeouts]) -> None:
    """`effective` is the one place where 0 becomes another number."""
    zeros = dataclasses.replace(part(), **{name: 0 for name in names_of(part) if name != "limit_request_head"})  # type: ignore[arg-type]
    effective = zeros.effective()
    replaced = {name for name in names_of(part) if getattr(effective, name) != getattr(zeros, name)}
    assert replaced
    for each in options_of(part):
        if each.name in replaced:
            assert "0 for no limit" in each.help or "0 for as many as" in each.help, each.name
