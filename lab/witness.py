# SPDX-License-Identifier: GPL-2.0-only
"""What was done to a device from outside its user's program, as QEMU's trace has it."""

from dataclasses import dataclass

from . import pci, vtd


@dataclass(frozen=True)
class Findings:
    """What happened to a device between two moments; each list is empty when nothing did.

    masks has the one write that masks its interrupts, where they go along.
    """

    masks: list
    config_writes: list
    bridge_changes: list
    faults: list
    resets: list
    translation: list

    def complaints(self):
        """Return a line for each kind of disturbance that there was."""
        kinds = {"config writes to it": self.config_writes, "changes of a bridge above it":
                 self.bridge_changes, "IOMMU faults": self.faults, "resets": self.resets,
                 "translation off or without root table": self.translation}
        return [f"{len(found)} {kind}: {', '.join(map(str, found[:3]))}"
                for kind, found in kinds.items() if found]


class Witness:
    """Looks after a device that nobody may touch; made before anything could."""

    def __init__(self, machine, bdf, carries=False):
        """Take down how the device and the bridges above it are now.

        carries: its interrupts go along, for which MSI-X is masked, and nothing else.
        """
        self._machine = machine
        self._carries = carries
        self.bdf = bdf
        path = machine.sh(f"readlink -f /sys/bus/pci/devices/{bdf}").strip()
        self.bridges = [part for part in path.split("/")[4:-1] if part.startswith("0000:")]
        self._configs = {place: machine.config(place) for place in (*self.bridges, bdf)}

    def _is_intx(self, event):
        """Tell whether a write changes nothing but whether the device may raise INTx."""
        changed = event.value ^ pci.word(self._configs[self.bdf], pci.COMMAND)
        return event.offset == pci.COMMAND and not changed & ~pci.COMMAND_INTX_DISABLE

    def _masks(self, writes):
        """Return the write that masks the interrupts, of those to the device."""
        control = pci.msix_control(self._configs[self.bdf])
        both = pci.MSIX_ENABLE | pci.MSIX_MASK
        return [event for event in writes
                if event.offset == control and event.value & both == both][:1]

    def findings(self, since, until):
        """Return the Findings of a span of time, between two marks or times.

        INTx is disabled when a device is preserved: that passes where the span begins earlier.
        """
        machine = self._machine
        writes = machine.trace("pci_cfg_write", None, since, until)
        changes = []
        for bridge in self.bridges:
            pairs = [(event.offset, event.value) for event in writes if event.bdf == bridge]
            changes += [f"{bridge} {change}"
                        for change in pci.bridge_changes(self._configs[bridge], pairs)]
        resets = machine.resets(self.bdf, self._configs[self.bdf], since, until)
        for bridge in self.bridges:
            resets += machine.bus_resets(bridge, since, until)
        own = [event for event in writes if event.bdf == self.bdf]
        masks = self._masks(own) if self._carries else []
        return Findings(
            masks=masks,
            config_writes=[event for event in own if event not in masks
                           and (since == "freeze" or not self._is_intx(event))],
            bridge_changes=changes,
            faults=machine.trace("vtd_dmar_fault", self.bdf, since, until),
            resets=resets,
            translation=vtd.troubles(machine.trace(None, None, since, until)))
