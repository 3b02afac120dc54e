"""How `--help` is laid out and printed: for the current terminal, flags in one column, their descriptions in the
other.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import Any

from forkserve.cli.ending import say, tell

__all__ = ["HelpFormatter", "CommandLineParser"]

WIDEST = 110


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows a flag as `-w, --workers N|auto`: the short form, the first long one, and the value once."""

    def __init__(self, prog: str) -> None:
        columns = shutil.get_terminal_size((WIDEST, 24)).columns
        super().__init__(prog, max_help_position=34, width=min(columns - 1, WIDEST))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        short = [flag for flag in action.option_strings if not flag.startswith("--")][:1]
        long = [flag for flag in action.option_strings if flag.startswith("--")][:1]
        value = "" if action.nargs == 0 else f" {action.metavar}"
        return ("" if short else "    ") + ", ".join(short + long) + value


class CommandLineParser(argparse.ArgumentParser):
    """Prints as the commands do; argparse itself swallows some errors of standard output and leaves others to exit."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            (say if file is sys.stdout else tell)(message)
