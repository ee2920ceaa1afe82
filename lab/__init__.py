# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU lab: build what a machine starts from, run it, talk to it, read its traces."""

from .image import ImageError, Kernel
from .machine import GuestError, Machine, MachineError, Reply, Worker
from .topology import SMALL, STANDARD, Disk, Edu, Igb, Nvme, Port, Switch, Vhost, Virtio, Vnet
from .vm import InnerVm, stamped

__all__ = ["Disk", "Edu", "GuestError", "Igb", "ImageError", "InnerVm", "Kernel", "Machine",
           "MachineError", "Nvme", "Port", "Reply", "SMALL", "STANDARD", "Switch", "Vhost",
           "Virtio", "Vnet", "Worker", "stamped"]
