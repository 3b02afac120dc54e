"""What can be wrong with the file of `loggerconfig`, without applying it.

Rules: it reads the file, and imports nothing that the file names.
"""

from __future__ import annotations

import configparser
import importlib
import json
from pathlib import Path

__all__ = ["fault_of"]

_SECTIONS = ("loggers", "handlers", "formatters")


def fault_of(path: str) -> str:
    """Return why a file cannot configure `logging`, or an empty text."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        return f"{path}: {error.strerror}"
    except UnicodeDecodeError as error:
        return f"{path}: no text in UTF-8: {error.reason}"
    return _fault_in_text(path, text)


def _fault_in_text(path: str, text: str) -> str:
    if path.endswith((".yaml", ".yml")):
        return _fault_in_yaml(path, text)
    if path.endswith(".json"):
        try:
            return _fault_in(path, json.loads(text))
        except ValueError as error:
            return f"{path}: no JSON: {error}"
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text, source=path)
    except configparser.Error as error:
        return str(error).replace("\n", " ")
    missing = [each for each in _SECTIONS if not parser.has_section(each)]
    return f"{path}: no section [{missing[0]}], which logging.config.fileConfig needs" if missing else ""


def _fault_in_yaml(path: str, text: str) -> str:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        return f"{path}: PyYAML is needed to read it: pip install PyYAML"
    try:
        return _fault_in(path, yaml.safe_load(text))
    except yaml.YAMLError as error:
        return f"{path}: no YAML: {error}".replace("\n", " ")


def _fault_in(path: str, content: object) -> str:
    if not isinstance(content, dict) or content.get("version") != 1:
        return f"{path}: expected a mapping with version: 1, as logging.config.dictConfig takes it"
    return ""
