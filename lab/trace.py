# SPDX-License-Identifier: GPL-2.0-only
"""What QEMU saw its devices do, with the host's time for each event."""

import re
from dataclasses import dataclass, field
from datetime import datetime

# None of them comes more often than a device is used: one for each command and for each frame.
EVENTS = (
    "e1000e_io_write_data",
    "igb_rx_desc_buff_write",
    "pci_cfg_write",
    "pci_update_mappings_add",
    "pci_update_mappings_del",
    "vtd_dmar_enable",
    "vtd_dmar_fault",
    "vtd_inv_desc",
    "vtd_inv_qi_setup",
    "vtd_ir_enable",
    "vtd_reg_dmar_root",
    "vtd_reg_ir_root",
    "pci_nvme_enqueue_req_completion",
    "pci_nvme_pci_reset",
    "virtio_blk_req_complete",
    "virtio_set_status",
)

# The time as QEMU 10.0 writes it, or as it does from 10.2 on
_LINE = re.compile(r"(?:(?:\d+@)?(\d+\.\d+):|(\d+-\d+-\d+T\S+)Z )(\w+) (.*)")
_PLACE = re.compile(r"(\S+) ([0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) (.*)")
_CONFIG = re.compile(r"@(0x[0-9a-f]+) (?:<-|->) (0x[0-9a-f]+)")
_WORD = re.compile(r"(\w+)[ :=]+(0x[0-9a-f]+|\d+)\b")


def bdf_of_id(requester):
    """Return the address, like 0000:01:00.0, of a 16-bit requester id."""
    return f"0000:{requester >> 8:02x}:{requester >> 3 & 31:02x}.{requester & 7}"


@dataclass(frozen=True)
class Event:
    """Something that a device did or that was done to it.

    device is QEMU's name for the kind of device, bdf its address; fields has the numbers of
    the event: offset and value for config space, sid, addr and so on for others.
    """

    time: float
    name: str
    text: str
    device: str = None
    bdf: str = None
    fields: dict = field(default_factory=dict)

    @property
    def offset(self):
        """Offset of a write to config space."""
        return self.fields.get("offset")

    @property
    def value(self):
        """Value of a write to config space."""
        return self.fields.get("value")

    def __str__(self):
        """Show the event as it stands in the trace."""
        return f"{self.time:.6f} {self.name} {self.text}"


def parse(line):
    """Turn a line of the trace into an event; None for any other line."""
    match = _LINE.match(line)
    if not match:
        return None
    when = float(match[1]) if match[1] else \
        datetime.fromisoformat(f"{match[2]}+00:00").timestamp()
    name, text = match[3], match[4]
    place = _PLACE.match(text)
    if place:
        config = _CONFIG.match(place[3])
        fields = dict(zip(("offset", "value"), (int(n, 16) for n in config.groups()))) \
            if config else {}
        return Event(when, name, text, place[1], f"0000:{place[2]}", fields)
    fields = {key: int(number, 0) for key, number in _WORD.findall(text)}
    bdf = bdf_of_id(fields["sid"]) if "sid" in fields else None
    return Event(when, name, text, None, bdf, fields)


class Log:
    """The trace of a machine that runs: each line is read once, however often one looks."""

    def __init__(self, path):
        """Take the path of the file, which QEMU will make."""
        self._path = path
        self._place = 0
        self._events = []

    def events(self):
        """Return the events so far, in their order, but for those that were forgotten."""
        with open(self._path, "rb") as file:
            file.seek(self._place)
            data = file.read()
        # QEMU may be in the middle of a line.
        whole = data[:data.rfind(b"\n") + 1]
        self._place += len(whole)
        lines = whole.decode("ascii", "replace").splitlines()
        self._events += [event for event in map(parse, lines) if event]
        return self._events

    def forget(self, until):
        """Let the events before a moment go."""
        self._events = [event for event in self.events() if event.time >= until]


def select(events, name=None, bdf=None, since=0.0, until=float("inf")):
    """Return the events of a name, of an address, of a span of time."""
    return [event for event in events
            if name in (None, event.name) and bdf in (None, event.bdf)
            and since <= event.time <= until]
