# SPDX-License-Identifier: GPL-2.0-only
"""The little of PCI's config space that tests look at."""

COMMAND = 0x04
COMMAND_MEMORY = 0x2
COMMAND_MASTER = 0x4
COMMAND_INTX_DISABLE = 0x400
BRIDGE_BUSES = 0x18
BRIDGE_CONTROL = 0x3e
BRIDGE_CONTROL_RESET = 0x40

CAP_PM = 0x01
CAP_MSI = 0x05
CAP_EXPRESS = 0x10
CAP_MSIX = 0x11
CAP_AF = 0x13

EXPRESS_DEVCTL = 0x08
EXPRESS_DEVCTL_FLR = 0x8000


def capability(config, wanted):
    """Return the offset of a capability in config space (bytes); 0 when there is none."""
    offset = config[0x34] & ~3
    while offset:
        if config[offset] == wanted:
            return offset
        offset = config[offset + 1] & ~3
    return 0


def word(config, offset, size=2):
    """Return a number of some bytes in config space."""
    return int.from_bytes(config[offset:offset + size], "little")
