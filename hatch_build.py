"""Builds the compiled part of the hot path into the tree, for this interpreter. Without a compiler there is none."""

from __future__ import annotations

import sysconfig
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
        """Compile, and have the wheel be one of this platform."""
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
