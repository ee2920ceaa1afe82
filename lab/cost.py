# SPDX-License-Identifier: GPL-2.0-only
"""What each step of an update costs, by a clock that counts the guest's instructions.

A drive has its DMA memory in a page table that maps more and more memory besides. Each step is
timed in the guest, whose clock goes by two nanoseconds with every instruction: what else the
machine that runs QEMU is doing does not count.
"""

import re

from . import Machine
from .topology import SMALL

IOVA = 0x10_0000_0000
NVME_MEMORY = "8m"
MORE_IOVA = 0x20_0000_0000
STEPS = ("preserve memory", "preserve iommufd", "preserve device", "frozen to jump",
         "take the IOMMU over", "boot to init", "retrieve iommufd", "retrieve device",
         "bind device", "retrieve memory", "map again", "hand over", "finish")


def moment(log, text):
    """Return when the kernel said something, in µs since it began."""
    return float(re.search(rf"\[ *(\d+\.\d+)\] .*{text}", log).group(1)) * 1e6


def measure(machine, megabytes):
    """Take a drive through an update with this much memory mapped; returns µs for each step."""
    owner = machine.worker("owner")
    took = {}

    def step(name, *words):
        owner(*words)
        took[name] = took.get(name, 0) + int(owner("took")) / 1000

    bdf = machine.bdf("nvme0")
    machine.bind_vfio(bdf)
    owner("vfio_open", "D", bdf)
    owner("iommufd", "I")
    owner("ioas", "I", "A")
    owner("vfio_bind", "D", "I")
    owner("hwpt_alloc", "I", "D", "A", "H")
    owner("vfio_attach", "D", "H")
    owner.dma_memory("M", NVME_MEMORY, IOVA)
    owner("memfd", "B", f"{megabytes}m")
    owner("mem_fill", "B", 0, f"{megabytes}m", 1)
    owner("ioas_map_file", "I", "A", "B", 0, f"{megabytes}m", MORE_IOVA)
    owner("nvme_start", "N", "D", "M", IOVA)
    owner("hwpt_mark", "I", "H", 1)
    owner("session_create", "S", "cost")
    owner("preserve", "S", 1, "M")
    step("preserve memory", "preserve", "S", 2, "B")
    step("preserve iommufd", "preserve", "S", 3, "I")
    step("preserve device", "preserve", "S", 4, "D")
    machine.kexec()
    log = machine.console_text("freeze")
    took["frozen to jump"] = moment(log, "stays on for") - moment(log, "frozen, running mode")
    took["take the IOMMU over"] = moment(log, "attached to the page table") \
        - moment(log, "translation stays on")
    took["boot to init"] = moment(log, "Run /init")
    owner("session_retrieve", "S", "cost")
    step("retrieve iommufd", "retrieve", "S", 3, "I")
    step("retrieve device", "retrieve", "S", 4, "D")
    step("bind device", "vfio_bind", "D", "I")
    owner("retrieve", "S", 1, "M")
    step("retrieve memory", "retrieve", "S", 2, "B")
    owner("nvme_adopt", "N", "D", "M")
    owner("ioas", "I", "A")
    owner("ioas_map_file", "I", "A", "M", 0, NVME_MEMORY, IOVA)
    step("map again", "ioas_map_file", "I", "A", "B", 0, f"{megabytes}m", MORE_IOVA)
    step("map again", "hwpt_alloc", "I", "D", "A", "H")
    step("hand over", "vfio_attach", "D", "H")
    step("finish", "finish", "S")
    return took


def table(sizes, kernel, next_kernel):
    """Measure with each of these sizes, in MiB; yields the lines of a table."""
    columns = []
    for size in sizes:
        with Machine(f"cost-{size}", kernel, next_kernel, topology=SMALL, icount=True,
                     memory=f"{max(sizes) * 2 + 768}M") as machine:
            columns.append(measure(machine, size))
    yield "| µs | " + " | ".join(f"{size} MiB" for size in sizes) + " |"
    yield "| --- |" + " --- |" * len(sizes)
    for step in STEPS:
        yield f"| {step} | " + " | ".join(f"{column[step]:.0f}" for column in columns) + " |"
