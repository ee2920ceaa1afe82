# SPDX-License-Identifier: GPL-2.0-only
"""A machine's root file system with systemd (setup/rootfs), as a disk of QEMU's."""

import functools
import subprocess

from . import paths
from .image import ImageError, run

# No colours in the console's log.
PLAIN = "TERM=dumb"


@functools.lru_cache(maxsize=None)
def image(*options):
    """Make the file system's image if need be, and return its path.

    With "--disk" it is the disk's, with "--vm" that of the file system with QEMU.
    """
    made = subprocess.run([paths.ROOT / "setup" / "rootfs", *options], stdout=subprocess.PIPE,
                          text=True, check=False)
    if made.returncode:
        raise ImageError("there is no root file system with systemd: setup/rootfs failed")
    return made.stdout.strip()


def own_disk(path):
    """Make a disk with Debian that is a machine's own; returns its path."""
    run("cp", "--sparse=always", image("--disk"), path)
    return path


def words(disk):
    """Return what lab/init needs on the kernel's command line, to find the root file system."""
    return f"lab.root=/dev/vda{1 if disk else ''} {PLAIN}"


def arguments(disk, boot=False, vm=False):
    """Return QEMU's arguments for a machine's own disk, or for the lab's, on which nothing stays.

    boot: firmware takes the kernel from it. vm: it is the one with QEMU.
    """
    lab = ["--vm"] if vm else []
    where = f"file={disk},cache=unsafe" if disk else f"file={image(*lab)},snapshot=on"
    return ["-drive", f"if=none,id=system,{where},format=raw",
            "-device", "virtio-blk-pci,drive=system,disable-legacy=on" + ",bootindex=0" * boot]
