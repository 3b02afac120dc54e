"""Loading the application: import, attribute, factory, kind; and good messages for what went wrong.

Rules: whatever user code raises becomes a `LoadError` with one line that names the place, and the traceback from the
first user frame on. A missing user module is distinguished from a missing module that it imports.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from forkserve.config.launch import ApplicationOptions, Interface
from forkserve.errors import ApplicationError, UsageError
from forkserve.serving.application.interface import WrongKindError, interface_of
from forkserve.serving.application.target import Call, Target, TargetKind, parse_target
from forkserve.suggest import nearest
from forkserve.unix.home import here

__all__ = ["LoadError", "Loaded", "load_application", "load_callable", "prepare_path", "run_hook", "user_traceback"]

DEFAULTS = ("application", "app")
FACTORIES = ("create_app", "make_app")
GONE = "the working directory, which has been deleted"
USUAL_FILES = ("app.py", "wsgi.py", "main.py", "asgi.py", "application.py")


class LoadError(ApplicationError):
    """The application cannot be loaded; `traceback` is the user's part of it, or empty."""

    def __init__(self, text: str, traceback: str = "") -> None:
        super().__init__(text)
        self.traceback = traceback


@dataclass(frozen=True, slots=True)
class Loaded:
    """An application ready to serve; `name` is that of the user's input."""

    app: Callable[..., Any]
    interface: Interface
    name: str


def prepare_path(options: ApplicationOptions) -> None:
    """Change the folder, and put python_path and the folder at the front of the import path."""
    if options.chdir is not None:
        try:
            os.chdir(options.chdir)
        except OSError as error:
            raise UsageError(f"--chdir: cannot change to {options.chdir}: {error.strerror}") from None
    folders = [_absolute(folder) for folder in options.python_path]
    for folder in folders:
        if not os.path.exists(folder):
            raise UsageError(f"--python-path: {folder} does not exist")
    front = [*folders, *here()]
    sys.path[:] = front + [entry for entry in sys.path if entry not in front and entry != ""]


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise LoadError(f"{path} is relative to {GONE}") from None


def load_application(options: ApplicationOptions) -> Loaded:
    """Load what the options name; raises UsageError if they name nothing, LoadError for everything else."""
    text = _named(options)
    try:
        target = parse_target(text)
    except ValueError as error:
        raise UsageError(f"application: {error}") from None
    app = _from_paste(target) if target.place is TargetKind.PASTE else _from_module(target, factory=options.factory)
    try:
        interface = interface_of(app)
    except WrongKindError as error:
        if options.interface is not Interface.AUTO and callable(app):
            return Loaded(app, options.interface, text)
        raise LoadError(f"application {text!r} {error}") from None
    if options.interface is not Interface.AUTO:
        interface = options.interface
    return Loaded(app, interface, text)


def load_callable(text: str, *, role: str) -> Callable[..., Any]:
    """Load a hook, `module:name` or `module.name`; raises LoadError."""
    try:
        target = parse_target(text)
    except ValueError as error:
        raise UsageError(f"{role}: {error}") from None
    module, attributes = _module(target)
    found = _attribute(module, (*attributes, *target.attributes), text)
    if not callable(found):
        raise LoadError(f"{role}: {text!r} is not callable")
    return found  # type: ignore[no-any-return]


def run_hook(text: str, role: str, argument: object) -> None:
    """Load a hook and call it; raises LoadError, with the user's traceback if it was the hook that failed."""
    hook = load_callable(text, role=role)
    with _reported(f"{role} {text!r} failed"):
        hook(argument)


def user_traceback(error: BaseException) -> str:
    """Return the traceback of `error` from the first frame on that is neither ours nor the import system's."""
    frame = _first_user_frame(error.__traceback__)
    return "".join(traceback.format_exception(type(error), error, frame)).rstrip()


def _named(options: ApplicationOptions) -> str:
    if options.config is not None:
        name = options.application
        if name is not None and not name.isidentifier():
            raise UsageError(f"give the application {name!r} or --config {options.config}, not both")
        return f"paste:{options.config}" + (f"#{name}" if name else "")
    if options.application is not None:
        return options.application
    there = next((name for name in USUAL_FILES if os.path.exists(name)), None)
    example = f"{there.removesuffix('.py')}:app" if there else "myapp:app"
    raise UsageError(f"no application given; name it as in: forkserve-worker --bind :8000 {example}")


def _from_module(target: Target, *, factory: bool) -> Any:
    module, attributes = _module(target)
    path = (*attributes, *target.attributes)
    if not path:
        return _by_convention(module, target, factory=factory)
    found = _attribute(module, path, target.text)
    if target.call is None and not factory:
        return found
    return _called(found, target.call or Call(), target.text)


def _module(target: Target) -> tuple[ModuleType, tuple[str, ...]]:
    if target.place is TargetKind.FILE:
        return _import_file(target), ()
    if target.place is TargetKind.MODULE:
        return _import(target.where, target), ()
    parts = target.where.split(".")
    for count in range(len(parts), 1, -1):
        try:
            return _import(".".join(parts[:count]), target), tuple(parts[count:])
        except _MissingError:
            continue
    return _import(parts[0], target), tuple(parts[1:])


class _MissingError(LoadError):
    """The requested module does not exist, in contrast to one that it imports."""


def _import(name: str, target: Target) -> ModuleType:
    try:
        with _reported(f"cannot import {name!r}", but=(ModuleNotFoundError,)):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        own = error.name is not None and (name == error.name or name.startswith(error.name + "."))
        if own and _first_user_frame(error.__traceback__) is None:
            raise _MissingError(_missing(error.name or name, target)) from None
        raise _raised(error, f"cannot import {name!r}") from None


def _missing(name: str, target: Target) -> str:
    # imported late: only for this message
    import difflib

    root = name.partition(".")[0]
    files = [path.stem for folder in sys.path[:3] for path in Path(folder).glob("*.py")] if "." not in name else []
    near = difflib.get_close_matches(root, files, n=1)
    folder = here()[0] if here() else f"{GONE},"
    hint = f"; did you mean {near[0]!r}?" if near else f"; looked in {folder} and the Python path (--python-path)"
    return f"no module named {name!r}, from application {target.text!r}{hint}"


def _import_file(target: Target) -> ModuleType:
    path = Path(_absolute(target.where)).resolve()
    if not path.is_file():
        raise LoadError(f"application {target.text!r}: {path} {'is no file' if path.exists() else 'does not exist'}")
    folder, names = path.parent, [path.stem]
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    if len(names) > 1:
        return _import(".".join(names if names[-1] != "__init__" else names[:-1]), target)
    return _execute(path)


def _execute(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        with _reported(f"cannot import {path}"):
            spec.loader.exec_module(module)
    except LoadError:
        del sys.modules[path.stem]
        raise
    return module


def _attribute(module: ModuleType, path: tuple[str, ...], text: str) -> Any:
    found: Any = module
    for index, name in enumerate(path):
        try:
            found = getattr(found, name)
        except AttributeError:
            where = ".".join((module.__name__, *path[:index]))
            raise LoadError(f"{where!r} has no attribute {name!r}, from {text!r}{_hint(name, found)}") from None
    return found


def _hint(name: str, owner: Any) -> str:
    names = [each for each in dir(owner) if not each.startswith("_")]
    if near := nearest(name, names):
        return near
    own = [each for each in names if callable(getattr(owner, each, None)) and _belongs(getattr(owner, each), owner)]
    return f"; callable there: {', '.join(own[:8])}" if own else ""


def _belongs(found: Any, owner: Any) -> bool:
    name = getattr(owner, "__name__", None)
    return getattr(found, "__module__", name) == name or (not inspect.isroutine(found) and not inspect.isclass(found))


def _by_convention(module: ModuleType, target: Target, *, factory: bool) -> Any:
    names = [name for name in DEFAULTS if hasattr(module, name)]
    if names:
        found = getattr(module, names[0])
        return _called(found, Call(), f"{module.__name__}:{names[0]}") if factory else found
    factories = [name for name in FACTORIES if callable(getattr(module, name, None))]
    if len(factories) == 1:
        return _called(getattr(module, factories[0]), Call(), f"{module.__name__}:{factories[0]}()")
    alike = [found for found in vars(module).values() if _plainly_an_application(found, module)]
    if len(alike) == 1 and not factory:
        return alike[0]
    raise LoadError(
        f"module {module.__name__!r} has neither 'application' nor 'app'; "
        f"name what to serve, as in {target.text}:NAME{_hint('application', module)}"
    )


def _plainly_an_application(found: Any, module: ModuleType) -> bool:
    if not inspect.isfunction(found) or found.__module__ != module.__name__:
        return False
    names = tuple(inspect.signature(found).parameters)
    return names in (("environ", "start_response"), ("scope", "receive", "send"))


def _called(factory: Any, call: Call, text: str) -> Any:
    if not callable(factory):
        raise LoadError(f"application {text!r} is to be called, but is a {type(factory).__name__}")
    try:
        inspect.signature(factory).bind(*call.args, **call.kwargs)
    except TypeError as error:
        raise LoadError(f"application {text!r}: the factory cannot be called so: {error}") from None
    except ValueError:
        pass  # built in C, without a signature
    with _reported(f"application {text!r}: the factory failed"):
        made = factory(*call.args, **call.kwargs)
    if made is None:
        raise LoadError(
            f"application {text!r}: the factory returned None; it must end with `return`, as in `return app`"
        )
    return made


def _from_paste(target: Target) -> Any:
    path = _absolute(target.where)
    if not os.path.isfile(path):
        raise LoadError(f"application {target.text!r}: {path} does not exist")
    try:
        from paste.deploy import loadapp
    except ImportError:
        raise LoadError(f"application {target.text!r} needs PasteDeploy: pip install 'forkserve[paste]'") from None
    name = target.attributes[0] if target.attributes else "main"
    with _reported(f"cannot load {name!r} of {path}"):
        return loadapp(f"config:{path}", name=name)


@contextmanager
def _reported(what: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Make a LoadError of what the user's code raises: anything, also what is no Exception, such as gevent.Timeout.

    Ctrl-C, and exceptions that are `but`, remain what they are.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, *but)):
            raise
        raise _raised(error, what) from None


def _first_line(error: BaseException) -> str:
    try:
        return next(iter(str(error).splitlines()), "") or "without a word"
    except Exception:  # noqa: BLE001 - its text is the user's code as well
        return "without a text that can be shown"


def _raised(error: BaseException, what: str) -> LoadError:
    kind = type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name:
        reason = f"it needs the module {error.name!r}, which is not there"
    elif isinstance(error, SystemExit):
        reason = f"it called sys.exit({error.code!r})"
    else:
        reason = f"{kind}: {_first_line(error)}"
    place = _place(error)
    return LoadError(f"{what}: {reason}{f' ({place})' if place else ''}", user_traceback(error))


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return ""  # its text has the place
    frames = list(_frames(error.__traceback__))
    own = [each for each in frames if "site-packages" not in each.tb_frame.f_code.co_filename]
    if not frames:
        return ""
    last = (own or frames)[-1]
    return f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}"


def _first_user_frame(start: TracebackType | None) -> TracebackType | None:
    return next(iter(_frames(start)), None)


def _frames(start: TracebackType | None) -> Iterable[TracebackType]:
    """Yield the user's frames: neither ours nor the import system's."""
    own = os.path.dirname(__file__)
    while start is not None:
        name = start.tb_frame.f_code.co_filename
        if not (name.startswith(("<frozen importlib", own)) or name == importlib.__file__):
            yield start
        start = start.tb_next
