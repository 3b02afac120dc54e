"""Makes the memory of a process that is to be forked cheap to share.

A fork shares all pages until one of the processes writes. What the workers would write to without need is prepared
here: reference counts of code. And pages of files that only the start has needed are not mapped any longer.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import sys
from collections.abc import Iterator
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

from forkserve.serving.native import hot

__all__ = ["settle_code", "unmap_files"]

_DESCRIPTORS = (
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
_CONSTANT = (type(None), bool, str, bytes, int, float, complex)
_OURS = sys.stdlib_module_names | {"forkserve", "h11", "httptools"}
"""Packages with code that each worker runs before it serves, and that lives as long as the process."""


def unmap_files() -> None:
    """Unmap the pages of programs and libraries that are as on disk; what is used again is mapped again.

    They stay in the page cache. Much of a library runs only while it is imported, and what no worker uses would
    be counted for this process alone. A mapping in which a page was written to, such as a relocated one, stays.
    """
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is None:
        return
    with contextlib.suppress(OSError):
        for begin, end in tuple(_clean_mappings()):
            madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def _clean_mappings() -> Iterator[tuple[int, int]]:
    """Iterate over the private mappings of files that cannot be written to, and have no page that was
    (proc_pid_smaps(5)); raises OSError.
    """
    found: tuple[int, int] | None = None
    with open("/proc/self/smaps") as file:
        for line in file:
            words = line.split(maxsplit=5)
            if not words[0].endswith(":"):
                is_file = words[4] != "0" and words[1] in ("r--p", "r-xp")
                begin, _, end = words[0].partition("-")
                found = (int(begin, 16), int(end, 16)) if is_file else None
            elif words[0] == "Anonymous:" and found is not None and words[1] == "0":
                yield found


def settle_code() -> None:
    """Stop counting references to the code of the standard library and ours, which is never freed anyway (PEP 683).

    A call writes to the count of the function, of its code, of its class. Nothing of the application is touched: its
    objects may be meant to end. Without the compiled part, and in a Python other than 3.12 and 3.13, nothing is done.
    """
    if hot is None or not hot.make_lasting(()):
        return
    for each in gc.get_objects():
        if type(each) is FunctionType:
            if _is_ours(each.__module__) and _holds_nothing(each):
                hot.make_lasting((each, *_parts_of(each.__code__)))
        elif _is_lasting(each):
            hot.make_lasting((each, *_held_by(each)))


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _OURS


def _holds_nothing(function: FunctionType) -> bool:
    """Tell whether a function keeps no object alive but code and constants."""
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return function.__closure__ is None and all(type(each) in _CONSTANT for each in defaults)


def _is_lasting(each: Any) -> bool:
    # By the type, and not isinstance(), which asks the object.
    kind = type(each)
    if issubclass(kind, type):
        return _is_ours(_module_of(each))
    if kind is ModuleType:
        return _is_ours(vars(each).get("__name__"))
    if kind in _DESCRIPTORS:
        return _is_ours(_module_of(each.__objclass__))
    return kind is BuiltinFunctionType and type(each.__self__) is ModuleType and _is_ours(each.__module__)


def _held_by(each: Any) -> Iterator[object]:
    """Iterate over what a class keeps alive anyway: its order of resolution, its methods and properties."""
    if not issubclass(type(each), type):
        return
    yield each.__mro__
    for value in tuple(vars(each).values()):
        if type(value) is FunctionType and _is_ours(value.__module__):
            yield value
            yield from _parts_of(value.__code__)
        elif type(value) in (classmethod, staticmethod, property, tuple):
            yield value


def _module_of(cls: type) -> object:
    try:
        return type.__dict__["__module__"].__get__(cls)
    except AttributeError:  # one of C without a module
        return None


def _parts_of(code: CodeType) -> Iterator[object]:
    """Iterate over a code object, its constants, and the code in it."""
    yield code
    yield code.co_consts
    for each in code.co_consts:
        if type(each) is CodeType:
            yield from _parts_of(each)
        elif type(each) in _CONSTANT:
            yield each
