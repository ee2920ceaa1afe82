# SPDX-License-Identifier: GPL-2.0-only
"""A machine's root file system with systemd (setup/rootfs), as a disk of QEMU's."""

import functools
import subprocess

from . import paths
from .image import ImageError

# Where the machine sees the disk, for lab/init; and no colours in the console's log.
WORDS = "lab.root=/dev/vda TERM=dumb"


@functools.lru_cache(maxsize=None)
def image():
    """Make the file system's image if need be and return its path."""
    made = subprocess.run([paths.ROOT / "setup" / "rootfs"], stdout=subprocess.PIPE, text=True,
                          check=False)
    if made.returncode:
        raise ImageError("there is no root file system with systemd: setup/rootfs failed")
    return made.stdout.strip()


def disk():
    """Return QEMU's arguments for the disk; what a machine writes to it is its own."""
    return ["-drive", f"if=none,id=system,file={image()},format=raw,snapshot=on",
            "-device", "virtio-blk-pci,drive=system,disable-legacy=on"]
