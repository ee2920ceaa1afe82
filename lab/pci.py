# SPDX-License-Identifier: GPL-2.0-only
"""The little of PCI's config space that tests look at, and what of a bridge must stay."""

COMMAND = 0x04
COMMAND_MEMORY = 0x2
COMMAND_MASTER = 0x4
COMMAND_INTX_DISABLE = 0x400
BRIDGE_BUSES = 0x18
BRIDGE_CONTROL = 0x3e
BRIDGE_CONTROL_RESET = 0x40

CLASS_NVME = "0x010802"

CAP_PM = 0x01
CAP_MSI = 0x05
CAP_EXPRESS = 0x10
CAP_MSIX = 0x11
CAP_AF = 0x13
MSIX_CONTROL, MSIX_ENABLE, MSIX_MASK = 0x02, 0x8000, 0x4000

EXPRESS_DEVCTL = 0x08
EXPRESS_DEVCTL_FLR = 0x8000

EXTENDED = 0x100
EXT_CAP_ACS = 0x0d
EXT_CAP_ATS = 0x0f
ATS_CONTROL = 0x06
ATS_ENABLE = 0x8000

# What a bridge needs for DMA from below to go on as it was: capability (None: the header;
# extended ones count from EXTENDED on), offset in there, size, bits, what it is. Left out are the
# bits that port services set when they start: error reporting, slot and link events, PME.
BRIDGE_STATE = (
    (None, COMMAND, 2, 0x0007, "bus mastering or decoding"),
    (None, BRIDGE_BUSES, 4, 0x00ffffff, "bus numbers"),
    (None, 0x1c, 2, 0xffff, "I/O window"),
    (None, 0x20, 4, 0xffffffff, "memory window"),
    (None, 0x24, 4, 0xffffffff, "prefetchable window"),
    (None, 0x28, 4, 0xffffffff, "prefetchable window"),
    (None, 0x2c, 4, 0xffffffff, "prefetchable window"),
    (None, 0x30, 4, 0xffffffff, "I/O window"),
    (None, BRIDGE_CONTROL, 2, 0xfbff, "bridge control"),
    (CAP_PM, 0x04, 2, 0x0003, "power state"),
    (CAP_EXPRESS, EXPRESS_DEVCTL, 2, 0xfff0, "device control"),
    (CAP_EXPRESS, 0x10, 2, 0xf3ff, "link control"),
    (CAP_EXPRESS, 0x18, 2, 0x0400, "slot power"),
    (CAP_EXPRESS, 0x28, 2, 0xffff, "device control 2, which has ARI"),
    (CAP_EXPRESS, 0x30, 2, 0xffff, "link control 2"),
    (EXTENDED + EXT_CAP_ACS, 0x06, 2, 0xffff, "ACS"),
)


def capability(config, wanted):
    """Return the offset of a capability in config space (bytes); 0 when there is none."""
    offset = config[0x34] & ~3
    while offset:
        if config[offset] == wanted:
            return offset
        offset = config[offset + 1] & ~3
    return 0


def msix_control(config):
    """Return the offset of MSI-X's Message Control in config space (bytes)."""
    return capability(config, CAP_MSIX) + MSIX_CONTROL


def extended_capability(config, wanted):
    """Return the offset of an extended capability in config space; 0 when there is none."""
    offset = EXTENDED
    while offset and offset + 4 <= len(config):
        head = word(config, offset, 4)
        if head & 0xffff == wanted:
            return offset
        offset = head >> 20 & ~3
    return 0


def has_ats_enabled(config):
    """Tell whether a device may cache translations, by its config space."""
    ats = extended_capability(config, EXT_CAP_ATS)
    return bool(ats and word(config, ats + ATS_CONTROL) & ATS_ENABLE)


def word(config, offset, size=2):
    """Return a number of some bytes in config space."""
    return int.from_bytes(config[offset:offset + size], "little")


def _place(config, capability_id, offset):
    """Return where a register of a capability is in config space, or None."""
    if capability_id is None:
        return offset
    if capability_id >= EXTENDED:
        start = extended_capability(config, capability_id - EXTENDED)
    else:
        start = capability(config, capability_id)
    return start + offset if start else None


def _length(offset, value):
    """Return how many bytes a write had at least; the trace does not say how many."""
    if value > 0xffff:
        return 4
    return 2 if value > 0xff or not offset & 1 else 1


def bridge_changes(config, writes):
    """Return what writes (offset, value), in their order, changed of what a bridge must keep.

    config is the bridge's config space before the first of them.
    """
    state = bytearray(config)
    changes = []
    for offset, value in writes:
        before = bytes(state)
        length = _length(offset, value)
        state[offset:offset + length] = value.to_bytes(length, "little")
        for capability_id, register, size, mask, what in BRIDGE_STATE:
            place = _place(config, capability_id, register)
            if place is None:
                continue
            old, new = (word(data, place, size) & mask for data in (before, state))
            if old != new:
                changes.append(f"{what}: {old:#x} -> {new:#x}")
    return changes
