# SPDX-License-Identifier: GPL-2.0-only
"""What is mapped in an address space of iommufd: who preserves it for another asks the kernel."""

import pytest

from lab import GuestError
from update import PAIR

USER, FILE, DMABUF = range(3)
READ, WRITE = 1, 2
BOTH = READ | WRITE
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def owner(start):
    """A process with an address space that has memory of each kind."""
    m = start(topology=PAIR)
    bdf = m.bdf("igb0")
    m.bind_vfio(bdf)
    worker = m.worker("owner")
    worker("iommufd", "I")
    worker("ioas", "I", "A")
    worker("vfio_open", "D", bdf)
    worker("vfio_bind", "D", "I")
    worker("memfd", "M", "64k")
    worker("dmabuf_export", "D", "B", 0, 0, 16 * KIB)
    worker("ioas_map_file", "I", "A", "M", 0, 64 * KIB, MIB)
    worker("ioas_map_file", "I", "A", "M", 32 * KIB, 16 * KIB, 2 * MIB)
    worker("ioas_map_file", "I", "A", "B", 4 * KIB, 8 * KIB, 3 * MIB)
    worker("ioas_map_anon", "I", "A", "U", 4 * KIB, 4 * MIB)
    return worker


def inode(owner, name):
    """Return the device and the inode of a file."""
    return tuple(map(int, owner("inode", name).values))


def areas(owner, start=0, count=16):
    """Return the areas from an address on, and how many there are."""
    said = owner("ioas_areas", "I", "A", start, count)
    return [tuple(int(word, 0) for word in line.split()) for line in said.lines], int(said)


def expected(owner):
    """Return the areas as they were mapped."""
    file, buffer = inode(owner, "M"), inode(owner, "B")
    assert file != buffer
    return [(MIB, 64 * KIB, 0, FILE, BOTH, *file),
            (2 * MIB, 16 * KIB, 32 * KIB, FILE, BOTH, *file),
            (3 * MIB, 8 * KIB, 4 * KIB, DMABUF, BOTH, *buffer),
            (4 * MIB, 4 * KIB, 0, USER, BOTH, 0, 0)]


def test_areas(owner):
    """Each is there once, with its file and the place in it, whichever room there is."""
    want = expected(owner)
    assert areas(owner) == (want, 4)
    assert areas(owner, count=0) == ([], 4)
    assert areas(owner, count=2) == (want[:2], 4)
    # An area that begins before the first address that is asked for, but ends after it
    assert areas(owner, start=2 * MIB + 8 * KIB) == (want[1:], 3)
    assert areas(owner, start=2 * MIB + 16 * KIB) == (want[2:], 2)
    assert areas(owner, start=5 * MIB) == ([], 0)
    owner("ioas_unmap", "I", "A", 2 * MIB, 16 * KIB)
    assert areas(owner) == (want[:1] + want[2:], 3)


def test_no_such_place(owner):
    """What is no address space has no areas."""
    owner("hwpt_alloc", "I", "D", "A", "H")
    with pytest.raises(GuestError) as error:
        owner("ioas_areas", "I", "H", 0, 1)
    assert error.value.errno == "ENOENT"


def test_change_process(owner):
    """Mappings of files and of dma-bufs can be another process's, those of memory cannot."""
    assert owner.fails("change_process", "I") == "EINVAL"
    owner("ioas_unmap", "I", "A", 4 * MIB, 4 * KIB)
    owner("change_process", "I")
    assert areas(owner) == (expected(owner)[:3], 3)
