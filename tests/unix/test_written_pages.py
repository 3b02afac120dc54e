"""Pages that one fork has written to are copied ahead in the next."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import mmap, os, resource, sys
from forkserve.serving.writtenpages import WrittenPages

PAGES = 600
memory = mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
written = WrittenPages()

def write():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for page in range(0, PAGES, 2):
        memory[page * mmap.PAGESIZE] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def in_child(act):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, str(act()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with open(reading) as file:
        return int(file.read())

def first():
    count = write()
    written.note()
    return count

def second():
    written.write_ahead()
    return write()

for page in range(PAGES):
    memory[page * mmap.PAGESIZE] = 2
assert not written.is_known
counts = in_child(second), in_child(first), in_child(second)
assert written.is_known and memory[0] == 2
print(*counts)
"""


def test_what_one_fork_has_written_to_is_copied_ahead_in_the_next() -> None:
    done = subprocess.run([sys.executable, "-u", "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    unknown, first, ahead = map(int, done.stdout.split())
    assert unknown >= 300 and first >= 300 and ahead < 50, done.stdout
