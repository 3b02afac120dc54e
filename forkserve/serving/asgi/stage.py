"""The stages of an ASGI response."""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["ResponseStage"]


class ResponseStage(Enum):
    """What is expected of the application."""

    START = auto()
    BODY = auto()
    MORE = auto()
    TRAILERS = auto()
    OVER = auto()
    LOST = auto()
