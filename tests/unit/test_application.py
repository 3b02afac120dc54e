"""What names an application, what is one, and what is said when it cannot be had."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forkserve.config.launch import ApplicationOptions, Interface
from forkserve.errors import UsageError
from forkserve.serving.application.importing import LoadError, load_application, load_callable, prepare_path, run_hook
from forkserve.serving.application.interface import WrongKindError, interface_of
from forkserve.serving.application.target import Call, TargetKind, parse_target

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into the folder that the application is loaded from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write_file(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    yield write_file
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load(application: str | None, **rest: Any) -> Any:
    options = ApplicationOptions(application=application, **rest)
    prepare_path(options)
    return load_application(options)


WSGI = "def app(environ, start_response): ...\n"


@pytest.mark.parametrize(
    ("text", "place", "where", "attributes", "call"),
    [
        ("m:app", TargetKind.MODULE, "m", ("app",), None),
        ("a.b:c.d", TargetKind.MODULE, "a.b", ("c", "d"), None),
        ("m:make()", TargetKind.MODULE, "m", ("make",), Call()),
        ("m:make(1, x='y')", TargetKind.MODULE, "m", ("make",), Call((1,), {"x": "y"})),
        ("a.b.c", TargetKind.DOTTED, "a.b.c", (), None),
        ("x/y.py", TargetKind.FILE, "x/y.py", (), None),
        ("y.py:app", TargetKind.FILE, "y.py", ("app",), None),
        ("paste:p.ini#name", TargetKind.PASTE, "p.ini", ("name",), None),
        ("p.ini", TargetKind.PASTE, "p.ini", (), None),
    ],
)
def test_every_form_of_a_name_is_read(
    text: str, place: TargetKind, where: str, attributes: tuple[str, ...], call: Call | None
) -> None:
    target = parse_target(text)
    assert (target.place, target.where, target.attributes) == (place, where, attributes)
    assert (target.call is None) == (call is None)
    if target.call is not None and call is not None:
        assert (target.call.args, dict(target.call.kwargs)) == (call.args, dict(call.kwargs))


@pytest.mark.parametrize("text", [":app", "m:", "m:1", "m:a b", "m:f(x)", "m:f(*[1])", "a-b:app", "m:a[0]"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_target(text)


async def asgi3(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> Any: ...


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class WsgiClass:
    def __init__(self, environ: Any, start_response: Any) -> None: ...


class Asgi2:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (asgi3, Interface.ASGI),
        (AsgiObject(), Interface.ASGI),
        (functools.partial(asgi3), Interface.ASGI),
        (lambda scope, receive, send: None, Interface.ASGI),
        (wsgi, Interface.WSGI),
        (WsgiObject(), Interface.WSGI),
        (WsgiClass, Interface.WSGI),
        (lambda *args: None, Interface.WSGI),
    ],
)
def test_wsgi_is_told_from_asgi(app: Any, interface: Interface) -> None:
    assert interface_of(app) is interface


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ({}, "is a dict"),
        (sys, "is a module"),
        (Asgi2, "ASGI 2"),
        (AsgiObject, "name an instance"),
        (lambda: None, "--factory"),
        (lambda scope: None, "double callable"),
        (lambda a, b, c, d: None, r"takes \(a, b, c, d\)"),
    ],
)
def test_what_is_no_application_is_refused_with_the_reason(app: Any, reason: str) -> None:
    with pytest.raises(WrongKindError, match=reason):
        interface_of(app)


@pytest.mark.parametrize(
    "name",
    ["site_a:app", "site_a", "site_a.app", "site_a.py", "site_a.py:app", "site_a:holder.app", "site_a:make('x')"],
)
def test_an_application_is_found_by_any_name(write: Write, name: str) -> None:
    write("site_a.py", WSGI + "class holder: app = staticmethod(app)\ndef make(mode): return app\n")
    assert load(name).interface is Interface.WSGI


def test_a_file_within_a_package_is_imported_as_part_of_it(write: Write) -> None:
    write("site_pkg/__init__.py", "")
    write("site_pkg/part.py", "from . import other\n" + WSGI)
    write("site_pkg/other.py", "")
    assert load("site_pkg/part.py").app.__module__ == "site_pkg.part"


def test_a_factory_is_called_if_told_so_or_if_it_is_all_there_is(write: Write) -> None:
    write("site_f.py", "def create_app():\n    def app(environ, start_response): ...\n    return app\n")
    assert load("site_f:create_app", factory=True).app.__name__ == "app"
    assert load("site_f").app.__name__ == "app"


def test_a_missing_module_is_told_from_one_that_it_imports(write: Write) -> None:
    write("site_m.py", "import surely_not_there\n")
    with pytest.raises(LoadError, match=r"no module named 'site_x'.*did you mean 'site_m'"):
        load("site_x:app")
    with pytest.raises(LoadError, match=r"cannot import 'site_m': it needs the module 'surely_not_there'.*site_m.py:1"):
        load("site_m:app")


def test_the_traceback_begins_at_the_users_own_code(write: Write) -> None:
    write("site_r.py", "def fail():\n    raise RuntimeError('boom')\nfail()\n")
    with pytest.raises(LoadError, match=r"RuntimeError: boom \(.*site_r.py:2\)") as caught:
        load("site_r:app")
    assert "site_r.py" in caught.value.traceback.splitlines()[1]
    assert "importlib" not in caught.value.traceback
    assert "forkserve" not in caught.value.traceback


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("aplication = 1\n", "has neither 'application' nor 'app'"),
        ("def (:\n", "SyntaxError"),
        ("import sys\nsys.exit(4)\n", r"sys.exit\(4\)"),
        ("app = {}\n", "is a dict"),
    ],
)
def test_a_broken_module_says_what_is_wrong_with_it(write: Write, text: str, said: str) -> None:
    write("site_b.py", text)
    with pytest.raises(LoadError, match=said):
        load("site_b")


def test_a_missing_attribute_brings_the_nearest(write: Write) -> None:
    write("site_n.py", "def application2(environ, start_response): ...\n")
    with pytest.raises(LoadError, match=r"no attribute 'application'.*did you mean 'application2'"):
        load("site_n:application")


def test_a_factory_that_cannot_be_called_so_is_named(write: Write) -> None:
    write("site_c.py", "def make(a): ...\n")
    with pytest.raises(LoadError, match="missing a required argument: 'a'"):
        load("site_c:make()")


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        ("__import__('asyncio').CancelledError('left over')", "CancelledError: left over"),
        ("type('Timeout', (BaseException,), {})()", "Timeout: without a word"),
        ("type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})()", "Odd: without a text that can be shown"),
        ("ValueError('\\n')", "ValueError: without a word"),
    ],
)
def test_whatever_an_application_raises_is_a_line(write: Write, raised: str, reason: str) -> None:
    write("site_b.py", f"raise {raised}\n")
    write("site_c.py", f"def make(): raise {raised}\n")
    for name, what in (("site_b:app", "cannot import 'site_b'"), ("site_c:make()", ".*: the factory failed")):
        with pytest.raises(LoadError, match=f"^{what}: {reason} ") as found:
            load(name)
        assert found.value.traceback.startswith('Traceback (most recent call last):\n  File "')
        assert "importing.py" not in found.value.traceback


def test_a_factory_that_forgets_to_return_is_named(write: Write) -> None:
    write("site_c.py", WSGI + "def create_app(): app\n")
    with pytest.raises(LoadError, match="application 'site_c:create_app': the factory returned None"):
        load("site_c:create_app", factory=True)


def test_an_interface_that_is_told_is_not_judged(write: Write) -> None:
    write("site_i.py", "def app(a, b, c): ...\n")
    assert load("site_i:app", interface=Interface.ASGI).interface is Interface.ASGI


def test_no_application_at_all_shows_how_to_name_one(write: Write) -> None:
    write("wsgi.py", WSGI)
    with pytest.raises(UsageError, match=r"no application given.*wsgi:app"):
        load(None)


def test_paste_files_are_loaded(write: Write) -> None:
    write("site_p.py", WSGI + "def factory(global_config): return app\n")
    write("p.ini", "[app:main]\npaste.app_factory = site_p:factory\n")
    assert load("p.ini").interface is Interface.WSGI
    assert load(None, config="p.ini").interface is Interface.WSGI
    with pytest.raises(LoadError, match=r"q.ini does not exist"):
        load("paste:q.ini")


def test_a_python_path_that_is_not_there_is_refused(write: Write) -> None:
    with pytest.raises(UsageError, match="--python-path"):
        load("m:app", python_path=("nowhere",))


def test_a_hook_is_found_by_both_forms(write: Write) -> None:
    write("site_h.py", "def hook(options): ...\n")
    prepare_path(ApplicationOptions())
    assert load_callable("site_h:hook", role="--pre-hook") is load_callable("site_h.hook", role="--pre-hook")


def test_a_hook_that_fails_is_shown_from_its_own_frame_on(write: Write) -> None:
    write("site_f.py", "def hook(options):\n    raise RuntimeError('no database')\n")
    prepare_path(ApplicationOptions())
    with pytest.raises(LoadError, match=r"^--pre-hook 'site_f:hook' failed: RuntimeError: no database \(") as raised:
        run_hook("site_f:hook", "--pre-hook", None)

    assert "site_f.py" in raised.value.traceback
    assert "importing.py" not in raised.value.traceback
