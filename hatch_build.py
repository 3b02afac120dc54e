"""Builds the compiled part of the hot path into the tree, for this interpreter, and what a wheel has below `share`.

Without a compiler there is no compiled part; without msgspec there are no manual pages and no completion.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.errors import BaseError, CompileError, LinkError

FOLDER = Path("forkserve") / "serving" / "native"
FLAGS = ["-O3", "-g0", "-Wall", "-Wextra", "-Wno-missing-field-initializers"]


class CompiledHook(BuildHookInterface[Any]):
    """Runs before a wheel is made, or an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, have the wheel be one of this platform, and add the files below `share`."""
        self._compile(build_data)
        if version != "editable":
            self._share(build_data)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made for the wheel alone."""
        if self._folder is not None:
            self._folder.cleanup()

    _folder: tempfile.TemporaryDirectory[str] | None = None

    def _share(self, build_data: dict[str, Any]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        call = (
            "import pathlib, sys\nfrom forkserve.cli.share import write_share\nwrite_share(pathlib.Path(sys.argv[1]))"
        )
        done = subprocess.run([sys.executable, "-c", call, self._folder.name], cwd=self.root, check=False)
        if done.returncode:
            self.app.display_warning("forkserve goes without its manual pages and its completion")
            return
        build_data["shared_data"][self._folder.name] = "share"

    def _compile(self, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        sources = sorted(str(path.relative_to(root)) for path in (root / FOLDER).glob("*.c"))
        headers = [str(path) for path in (root / FOLDER).glob("*.h")]
        extension = Extension("forkserve.serving.native._hot", sources, depends=headers, extra_compile_args=FLAGS)
        command = Distribution({"ext_modules": [extension]}).get_command_obj("build_ext")
        command.inplace = True  # type: ignore[attr-defined]
        try:
            command.ensure_finalized()
            command.run()
        except (BaseError, CompileError, LinkError) as error:
            self.app.display_warning(f"forkserve goes without its compiled part, and slower: {error}")
            return
        build_data["artifacts"].append(str(FOLDER / ("_hot" + str(sysconfig.get_config_var("EXT_SUFFIX")))))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
