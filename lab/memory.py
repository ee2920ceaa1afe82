# SPDX-License-Identifier: GPL-2.0-only
"""What preserved memory costs an update, by a clock that counts the guest's instructions.

One memfd and nothing else crosses: how long the next kernel's boot is compared with that of
the same kernel with nothing preserved, and what preserving and retrieving take.
"""

import re
from dataclasses import dataclass

from . import Machine
from .cost import moment

PAGE = 4096


@dataclass(frozen=True)
class Kind:
    """How memory is allocated: in huge pages of a size, or in pieces of so many small ones."""

    name: str
    page: int = 0
    pieces: int = 0


WHOLE = Kind("4 KiB pages")
SINGLE = Kind("single pages", pieces=1)
HUGE = Kind("2 MiB pages", page=2 << 20)
GIGANTIC = Kind("1 GiB pages", page=1 << 30)


@dataclass(frozen=True)
class Cost:
    """What crossed, in bytes, and the milliseconds that it took."""

    size: int
    boot: float
    preserve: float = 0
    retrieve: float = 0
    finish: float = 0

    def boot_more(self, bare):
        """Return µs of boot for each page, compared with a boot with nothing preserved."""
        return (self.boot - bare.boot) * 1000 / (self.size / PAGE)

    def retrieve_each(self):
        """Return µs of retrieve for each page."""
        return self.retrieve * 1000 / (self.size / PAGE)


def took(worker):
    """Return the milliseconds of a worker's last command."""
    return int(worker("took")) / 1e6


def pool(page):
    """Return where sysfs says what there is of the huge pages of a size."""
    return f"/sys/kernel/mm/hugepages/hugepages-{page >> 10}kB"


def allocate(worker, name, size, kind=WHOLE):
    """Make a memfd with all its pages; the pool of huge pages grows by what it needs."""
    if kind.page:
        count = f"{pool(kind.page)}/nr_hugepages"
        worker("sh", f"more=$(($(cat {count}) + {size // kind.page})); echo $more >{count};"
                     f" [ $(cat {count}) = $more ]")
        worker("memfd_huge", name, size, kind.page)
    else:
        worker("memfd", name, size)
    if not kind.pieces:
        worker("mem_touch", name)
        return
    between = f"{name}-between"
    worker("memfd", between, size)
    worker("mem_interleave", name, between, kind.pieces)
    worker("close", between)


def cross(machine, size, kind=WHOLE):
    """Take a memfd of a size through an update of a machine that counts; returns the Cost."""
    worker = machine.worker("owner")
    if size:
        allocate(worker, "A", size, kind)
        worker("mem_fill", "A", 0, size, 1)
        worker("session_create", "S", "memory")
        worker("preserve", "S", 1, "A")
        preserve = took(worker)
    machine.kexec()
    boot = moment(machine.console_text("freeze"), "Run /init") / 1000
    if not size:
        return Cost(size, boot)
    worker("session_retrieve", "S", "memory")
    worker("retrieve", "S", 1, "A")
    retrieve = took(worker)
    worker("mem_check", "A", 0, size, 1)
    worker("finish", "S")
    return Cost(size, boot, preserve, retrieve, took(worker))


def measure(kernel, next_kernel, size, kind=WHOLE):
    """Take a memfd through an update of a machine made for that; returns the Cost."""
    name = re.sub(r"\W+", "-", f"{kind.name}-{size >> 20}") if size else "bare"
    with Machine(f"memory-{kernel}-{name}", kernel, next_kernel, topology=(), icount=True,
                 memory="1G") as machine:
        return cross(machine, size, kind)
