"""The manual pages have all that the commands take, in a form that groff has nothing to say against."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forkserve.cli.ctlparser import ctl_parser
from forkserve.cli.manpages import PAGES, man_page, write_pages
from forkserve.cli.ownverbs import ALL_VERBS
from forkserve.cli.share import write_share
from forkserve.config.launch import WorkerOptions
from forkserve.config.options import options_of


@pytest.mark.parametrize("name", PAGES)
def test_groff_reads_a_page_without_a_warning(name: str) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-ww", "-Tascii", "-rLL=80n", "-P-cbou"]
    done = subprocess.run(command, input=man_page(name), capture_output=True, text=True, timeout=20, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    shown = " ".join(done.stdout.split())
    assert shown.startswith(f"{name.upper()}(1) User Commands")
    assert f" NAME {name} - " in shown


def test_all_verbs_and_flags_are_told() -> None:
    page = man_page("forkservectl")
    assert [f"\n.SS {verb}" in page for verb in ALL_VERBS] == [True] * len(ALL_VERBS)
    for flag in ("canary", "max", "retry\\-after", "follow", "interval"):
        assert f"\\fB\\-\\-{flag}\\fR" in page
    worker = man_page("forkserve-worker")
    flags = [flag for each in options_of(WorkerOptions) for flag in each.cli[:1]]
    assert [flag for flag in flags if f"\\fB{flag.replace('-', chr(92) + '-')}\\fR" not in worker] == []
    assert "\\fB\\-\\-fd\\-socket\\fR \\fINAME=ADDRESS\\fR" in man_page("forkserve")


def test_no_line_of_text_is_taken_for_a_request() -> None:
    known = {".TH", ".SH", ".SS", ".TP", ".PP", ".nf", ".fi"}
    for name in PAGES:
        starts = {line.split(" ")[0] for line in man_page(name).splitlines() if line[:1] in (".", "'")}
        assert starts <= known


def test_pages_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    paths = write_pages(tmp_path / "man1")
    assert [path.name for path in paths] == ["forkserve.1", "forkserve-worker.1", "forkservectl.1"]
    assert paths[2].read_text() == man_page("forkservectl")


def test_a_wheel_has_pages_and_completion_where_man_and_the_shells_look(tmp_path: Path) -> None:
    write_share(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "bash-completion/completions/forkservectl",
        "fish/vendor_completions.d/forkservectl.fish",
        *sorted(f"man/man1/{name}.1" for name in PAGES),
        "zsh/site-functions/_forkservectl",
    ]
    assert (tmp_path / "zsh/site-functions/_forkservectl").read_text().startswith("#compdef forkservectl\n")


def test_the_command_prints_one_and_refuses_others(tmp_path: Path) -> None:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "forkserve", "man", *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    assert run("forkservectl").stdout == man_page("forkservectl")
    refused = run("forkserved")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("forkserve: error: usage: forkserve man [forkserve | ")
    (tmp_path / "file").touch()
    refused = run("--to", str(tmp_path / "file"))
    assert refused.stderr == f"forkserve: error: {tmp_path}/file: File exists\n"


def test_the_help_of_forkservectl_has_every_verb() -> None:
    help = ctl_parser().format_help()
    assert [verb for verb in ALL_VERBS if f"\n    {verb}" not in help] == []
