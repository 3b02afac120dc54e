"""Which parser reads the header fields of requests: llhttp, which is compiled, or h11, which is Python.

Rules: neither library is imported before it is chosen. So h11 serves where httptools cannot be imported (PyPy, no
compiler), and a worker loads only one of them. With `FORKSERVE_PURE` in the environment no compiled extension reads
requests, neither ours nor httptools.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from forkserve.config.serving import Parser
from forkserve.errors import BackendError
from forkserve.serving.http.fields import Collector
from forkserve.serving.http.request import FieldReader
from forkserve.serving.native import PURE

__all__ = ["chosen", "reader_of"]


def reader_of(parser: Parser) -> Callable[[Collector], FieldReader]:
    """Return the factory of readers of header fields; raises BackendError if `c` is requested and not available."""
    if chosen(parser) is Parser.H11:
        from forkserve.serving.http.pure import H11Fields

        return H11Fields
    from forkserve.serving.http.remembered import RememberedFields

    return RememberedFields


def chosen(parser: Parser) -> Parser:
    """Return which parser is used, C or H11; raises BackendError as `reader_of`."""
    if parser is Parser.H11:
        return parser
    obstacle = _obstacle()
    if not obstacle:
        return Parser.C
    if parser is Parser.AUTO:
        return Parser.H11
    raise BackendError(f"--parser c cannot be used here: {obstacle}; leave it out, or use --parser h11")


def _obstacle() -> str:
    if PURE:
        return "FORKSERVE_PURE is set, which forbids compiled code"
    try:
        importlib.import_module("httptools")
    except ImportError as error:
        return f"httptools cannot be imported ({error})"
    return ""
