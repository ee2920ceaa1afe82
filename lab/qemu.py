# SPDX-License-Identifier: GPL-2.0-only
"""Which QEMU runs a machine: the one that is installed, or Debian sid's where that is too old.

The newer one comes out of the file system for machines with QEMU in them (setup/rootfs --vm), with
its libraries. The firmware is that of the one that is installed.
"""

import fcntl
import functools
import shutil
from pathlib import Path

from . import paths, system
from .image import run

INSTALLED = ("qemu-system-x86_64",)
LIBRARIES = "lib/x86_64-linux-gnu"
# What intel-iommu's properties were called before QEMU 10.2.
RENAMED = {"x-scalable-mode": "scalable-mode", "x-flts": "fsts"}


@functools.lru_cache(maxsize=None)
def newer():
    """Return what a command line of the newer one begins with; unpacks it if need be."""
    image = Path(system.image("--vm"))
    folder = paths.LAB / "qemu"
    with open(paths.LAB / "qemu.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / "stamp"
        if not stamp.exists() or stamp.stat().st_mtime < image.stat().st_mtime:
            _unpack(image, folder)
            stamp.touch()
    return (folder / LIBRARIES / "ld-linux-x86-64.so.2", "--library-path", folder / LIBRARIES,
            folder / "bin" / INSTALLED[0], "-L", folder / "share" / "qemu",
            "-L", Path("/usr/share/seabios"))


def _unpack(image, folder):
    """Take QEMU and all that it needs out of a file system's image."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in (LIBRARIES, "share/qemu"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        run("/sbin/debugfs", "-R", f"rdump /usr/{name} {(folder / name).parent}", image)
    program = folder / "bin" / INSTALLED[0]
    program.parent.mkdir()
    run("/sbin/debugfs", "-R", f"dump -p /usr/bin/{program.name} {program}", image)


def options(words):
    """Return an option of intel-iommu's as the newer one has it."""
    for old, new in RENAMED.items():
        words = words.replace(old, new)
    return words
