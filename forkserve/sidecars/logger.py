"""The log program: `python -m forkserve.sidecars.logger --config FILE`, for `loggerconfig`.

Records arrive as lines of JSON on standard input, and are handled by Python's `logging` as the file has configured it.
They belong to the loggers `forkserve.master`, `forkserve.watcher` and so on; if the file names none of these, but
Circus's logger `circus`, they belong to that. It ends with its input.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import logging.config
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forkserve import logs
from forkserve.errors import ExitCode
from forkserve.sidecars.dotted import add_folders
from forkserve.unix.proctitle import set_title

__all__ = ["configure", "main", "take"]

_OURS, _THEIRS = "forkserve", "circus"


def main() -> int:
    """Handle records until there are no more; returns the exit code."""
    parser = argparse.ArgumentParser(prog="forkserve-logger", allow_abbrev=False)
    parser.add_argument("--config", required=True)
    path = parser.parse_args().config
    set_title("forkserve: log program")
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # the last lines are those of the end
    add_folders([os.getcwd()])
    _try_to_configure(path)
    for line in sys.stdin.buffer:
        try:
            fields = json.loads(line)
        except ValueError:
            sys.stderr.buffer.write(line)
            continue
        if "reopen" in fields:
            _try_to_configure(path)
        else:
            take(fields)
    logging.shutdown()
    return ExitCode.OK


def _try_to_configure(path: str) -> None:
    try:
        configure(path)
    except Exception as error:  # noqa: BLE001 - whatever a class that the file names raises
        reason = f"{error}; {error.__cause__}" if error.__cause__ else str(error)
        print(f"forkserve: loggerconfig {path}: {reason}; the log goes to standard error", file=sys.stderr)
        logs.set_up("debug", "-")


def configure(path: str) -> None:
    """Configure `logging` by a file in JSON, YAML or that of `fileConfig`; raises whatever that does."""
    if path.endswith((".yaml", ".yml")):
        yaml: Any = importlib.import_module("yaml")
        logging.config.dictConfig(yaml.safe_load(Path(path).read_text()))
    elif path.endswith(".json"):
        logging.config.dictConfig(json.loads(Path(path).read_text()))
    else:
        logging.config.fileConfig(path, disable_existing_loggers=False)


def take(fields: Mapping[str, Any]) -> None:
    """Handle one record."""
    name = str(fields["name"])
    if not _is_configured(_OURS) and _is_configured(_THEIRS):
        name = name.replace(_OURS, _THEIRS, 1)
    logger = logging.getLogger(name)
    record = logging.makeLogRecord({**fields, "name": name})
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _is_configured(root: str) -> bool:
    """Tell whether a logger, or one below it, has a level or handlers."""
    known = logging.Logger.manager.loggerDict
    named = [each for name, each in known.items() if name == root or name.startswith(f"{root}.")]
    return any(isinstance(each, logging.Logger) and (each.handlers or each.level) for each in named)


if __name__ == "__main__":
    sys.exit(main())
