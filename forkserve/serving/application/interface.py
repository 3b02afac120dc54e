"""WSGI or ASGI: decided by the signature of an object, without calling it.

Rules: pure. ASGI 3 is a coroutine function of three arguments (scope, receive, send); WSGI a plain callable of two
(environ, start_response), by PEP 3333 also a class. ASGI 2's double callable is refused, with the reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from forkserve.config.launch import Interface

__all__ = ["WrongKindError", "interface_of"]

ASGI_ARGUMENTS = ("scope", "receive", "send")


class WrongKindError(ValueError):
    """The object is no application; the text continues its name: `is a dict, which cannot be called`."""


def interface_of(app: Any) -> Interface:
    """Return WSGI or ASGI; raises WrongKindError."""
    if isinstance(app, ModuleType):
        raise WrongKindError("is a module; name the application in it, as in module:app")
    if inspect.iscoroutine(app):
        app.close()
        raise WrongKindError("is a coroutine: an asynchronous factory cannot be called here")
    if not callable(app):
        raise WrongKindError(f"is {_article(type(app).__name__)}, which cannot be called")
    names = _positional(app)
    if inspect.isclass(app):
        return _class_interface(app, names)
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None)):  # noqa: B004 - its kind is asked, not whether it is there
        if names is not None and not _takes(names, 3):
            raise WrongKindError(f"is asynchronous but takes {_listing(names)}; ASGI takes (scope, receive, send)")
        return Interface.ASGI
    if names is None or (_takes(names, 2) and tuple(names[:1]) != ("scope",)):
        return Interface.WSGI
    if tuple(names[:3]) == ASGI_ARGUMENTS:
        return Interface.ASGI
    raise WrongKindError(_why_not(names))


def _class_interface(app: Any, names: Sequence[str] | None) -> Interface:
    if inspect.iscoroutinefunction(app.__call__):
        raise WrongKindError(
            "is a class whose instances are ASGI applications: name an instance, or make one with module:Class(); "
            "a double callable of ASGI 2 works through asgiref.compatibility.guarantee_single_callable"
        )
    if names is None or _takes(names, 2):
        return Interface.WSGI
    raise WrongKindError(f"is a class that takes {_listing(names)}; a WSGI application takes (environ, start_response)")


def _why_not(names: Sequence[str]) -> str:
    if not _required(names):
        return "takes no arguments; if it makes the application, call it with module:factory() or --factory"
    if tuple(names) == ("scope",):
        return (
            "is a double callable of ASGI 2, which is not served; wrap it by "
            "asgiref.compatibility.guarantee_single_callable"
        )
    return f"takes {_listing(names)}; WSGI takes (environ, start_response), ASGI (scope, receive, send)"


OPTIONAL, ANY = "=", "*"


def _positional(app: Any) -> list[str] | None:
    """Return the names of positional parameters, those with a default ending in `=`, `*` for any; None if unknown."""
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return None
    names = []
    for each in parameters:
        if each.kind is each.VAR_POSITIONAL:
            names.append(ANY)
        elif each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD):
            names.append(each.name if each.default is each.empty else each.name + OPTIONAL)
        elif each.kind is each.KEYWORD_ONLY and each.default is each.empty:
            names.append(f"{each.name}=...")
    return names


def _required(names: Sequence[str]) -> list[str]:
    return [name for name in names if name != ANY and not name.endswith(OPTIONAL)]


def _takes(names: Sequence[str], count: int) -> bool:
    most = float("inf") if ANY in names else len(names)
    return len(_required(names)) <= count <= most


def _listing(names: Sequence[str]) -> str:
    return f"({', '.join(name.removesuffix(OPTIONAL) for name in names)})"


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
