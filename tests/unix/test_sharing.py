"""What a zygote does so that its memory is cheap to share: files unmapped, and code of ours that is not counted."""

from __future__ import annotations

import subprocess
import sys

import pytest

from forkserve.serving.native import hot

UNMAPPED = """
import ctypes, mmap, re, sqlite3, ssl, sys
from forkserve.serving.sharing import unmap_files

def of_files():
    with open("/proc/self/smaps_rollup") as file:
        sizes = dict(re.findall(r"^(Rss|Anonymous): +(\\d+) kB", file.read(), re.M))
    return int(sizes["Rss"]) - int(sizes["Anonymous"])

with open(sys.executable, "rb") as file:
    own = mmap.mmap(file.fileno(), 4 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
own[0:6] = b"my own"
libc = ctypes.CDLL(None)
address = ctypes.addressof(ctypes.c_char.from_buffer(own))
assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4 * mmap.PAGESIZE), mmap.PROT_READ) == 0
before = of_files()
unmap_files()
after = of_files()
assert own[0:6] == b"my own"
assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
ssl.create_default_context()
print(before, after)
"""

COUNTED = """
import fractions, gc, json, sys
from forkserve.serving import sharing

class Mine:
    pass

def mine():
    pass

made = json.JSONEncoder()
held = [json.dumps]

def grows(each):
    before = sys.getrefcount(each)
    more = [each] * 1000
    return sys.getrefcount(each) - before == 1000

def all_grow():
    theirs = (json.dumps, json.dumps.__code__, json, fractions.Fraction, vars(fractions.Fraction)["numerator"])
    wanted = (*theirs, mine, Mine, made, held)
    return "".join("-+"[grows(each)] for each in wanted)

first = all_grow()
sharing.settle_code()
second = all_grow()
gc.collect()
gc.freeze()
assert json.loads(json.dumps([1, {"a": None}])) == [1, {"a": None}] and fractions.Fraction(1, 3) * 3 == 1
print(first, second)
"""


def run(script: str) -> list[str]:
    done = subprocess.run([sys.executable, "-u", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_pages_of_libraries_are_unmapped_and_what_was_written_to_stays() -> None:
    before, after = map(int, run(UNMAPPED))
    assert after < before / 2


@pytest.mark.skipif(hot is None, reason="needs the compiled part")
def test_references_to_code_of_the_standard_library_are_not_counted_and_those_of_the_application_are() -> None:
    can = (3, 12) <= sys.version_info < (3, 14)
    assert run(COUNTED) == ["+++++++++", "-----++++" if can else "+++++++++"]
