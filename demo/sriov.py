# SPDX-License-Identifier: GPL-2.0-only
"""demo/run --sriov: virtual functions of a controller that is the host's network.

Each belongs to a program of its own. Linux's driver, igb, has the physical function in both
kernels, and keeps it for them in between.
"""

from demo.common import AFTER, BEFORE, Facts, Way, expect, milliseconds
from lab import Igb, Port
from lab.running import FRAMES, IOVA, Guests, HostNetwork
from lab.timeline import frames
from lab.witness import Witness

PHYSICAL = "igb0"
# Virtual functions, and how many frames come to each in a second
RATES = {"igb0vf0": 40, "igb0vf1": 30}
REGISTER_WRITE = "e1000e_core_write"
# The reset of the whole controller, in its register CTRL
CTRL, CTRL_RST = 0x0, 1 << 26
# From a driver's first write to config space to its first write to a register, in seconds
ENABLING = 0.1
SENT = 50


class Sriov(Way):
    """The way of virtual functions, and of the physical one, through an update."""

    name = "demo-sriov"
    headline = ("Virtual functions go on working while the kernel is replaced; the host has its "
                "network before and after.")
    topology = (Port(Igb(PHYSICAL)),)
    what = "a network controller"
    phases = (("freeze", "freeze", "jump"), ("jump", "jump", "kernel"),
              ("boot", "kernel", "adopted"), ("igb", "adopted", "network"),
              ("retrieve", "network", "retrieved"), ("handover", "retrieved", "handover"))
    picture = "sriov"
    written = "sriov.json"
    good = ("Nothing was lost, no virtual function stopped, and nobody touched them; the host has "
            "its network again.")

    def __init__(self, machine, show, spoil):
        """Take a machine that runs."""
        super().__init__(machine, show, [PHYSICAL])
        self.spoil = spoil
        self.owners = {name: Guests(machine, f"program{number}", session=f"program{number}",
                                    first=number, rate=rate / FRAMES)
                       for number, (name, rate) in enumerate(RATES.items())}
        self.accounts = {}
        self.host = self.witness = None
        self.host_accounts = []
        self.host_sent = []
        self.vfs = []

    @property
    def devices(self):
        """The virtual functions."""
        return [owner.devices[name] for name, owner in self.owners.items()]

    def look(self):
        """Take down which driver each function has, and how many there are."""
        machine = self.machine
        for fact in self.facts:
            fact.drivers.append(machine.driver(fact.bdf))
        path = f"/sys/bus/pci/devices/{self.facts[0].bdf}/sriov_numvfs"
        self.vfs.append(int(machine.sh(f"cat {path}")))

    def account_of_host(self):
        """Let no more frames come to the host, send some; returns what it came to."""
        self.host_accounts.append(self.host.account())
        self.host_sent.append(self.host.sent(100 * len(self.host_sent), SENT))
        account = self.host_accounts[-1]
        return f"{account.good} of {account.given} frames came, {self.host_sent[-1]} of {SENT} went"

    # --- the way ---

    def outgoing(self):
        """Give the functions work, and preserve the virtual ones."""
        show, machine, owners = self.show, self.machine, self.owners
        machine.trace_more(REGISTER_WRITE)
        with show.step("bring the host's network up on it, with igb; make virtual functions"):
            self.host = HostNetwork(machine, PHYSICAL, len(RATES))
            self.facts += [Facts(name, machine.bdf(name)) for name in RATES]
        with show.step("start a program for each, with a driver in user space") as result:
            for name, owner in owners.items():
                owner.open(name)
                owner.start()
            self.host.work()
            result.append(" and ".join(map(str, RATES.values())) + " frames a second")
        for fact in self.facts:
            said = machine.sh(f"cd /sys/bus/pci/devices/{fact.bdf} && cat vendor device").split()
            fact.ids = b"".join(int(word, 16).to_bytes(2, "little") for word in said)
        self.look()
        self.witness = Witness(machine, self.facts[0].bdf)
        with show.step("let them work"):
            machine.sh(f"sleep {BEFORE}")
        with show.step("preserve memory, page table and device of each program") as result:
            for owner in owners.values():
                owner.preserve()
            result.append(self.states("outgoing held", *["outgoing running"] * len(RATES)))
        for fact in self.facts:
            fact.config = machine.config(fact.bdf)
        with show.step("the host's network works on") as result:
            result.append(self.account_of_host())
        # Nobody counts these: they show when the host has no network.
        self.host.work()

    def load(self):
        """Load the next kernel, and do harm where that is asked for."""
        super().load()
        if self.spoil:
            device = self.devices[0]
            with self.show.step(f"send a frame to {device.name} a second time"):
                self.machine.wires[PHYSICAL].send(device.first_frame, 1, to=device.address)

    def incoming(self):
        """Have the host's network again, take the virtual functions over, and let all work on."""
        show, machine, owners = self.show, self.machine, self.owners
        machine.marks["adopted"] = machine.trace(REGISTER_WRITE, since="kernel")[0].time
        with show.step("igb has the physical function; bring the host's network up") as result:
            result.append(self.states("incoming held", *["incoming running"] * len(RATES)))
            self.host.settle_nothing()
            self.host.up()
            self.host.work()
            machine.mark("network")
        with show.step("new programs take the virtual functions out of the sessions"):
            for owner in owners.values():
                owner.retrieve()
        with show.step("hand over to page tables of their own"):
            for owner in owners.values():
                owner.handover()
        with show.step("finish the sessions") as result:
            for owner in owners.values():
                owner.finish()
            result.append(f"liveupdate {self.states('none')}")
        with show.step("look at drivers and config space") as result:
            self.look()
            for fact in self.facts[1:]:
                expect(f"{fact.name}: config space", machine.config(fact.bdf).hex(" "),
                       fact.config.hex(" "))
            result.append("as they were")
        with show.step("let them work on"):
            machine.sh(f"sleep {AFTER}")
        machine.mark("end")
        with show.step("look at each frame of the virtual functions"):
            for owner in owners.values():
                self.accounts |= owner.settle()
        with show.step("the host's network works") as result:
            result.append(self.account_of_host())

    # --- what it came to, when the machine has ended ---

    def lines(self):
        """Return when each function did DMA: the host's is at addresses below the programs'."""
        events = self.machine.trace()
        lines = {PHYSICAL: frames(events, 0, IOVA)}
        for owner in self.owners.values():
            lines |= owner.timelines(events)
        return lines

    def series(self):
        """Return what the lines of the picture are called, and what they show."""
        lines = self.lines()
        return [(f"{name}: frames", lines[name]) for name in RATES] \
            + [(f"{PHYSICAL}: frames of the host", lines[PHYSICAL])]

    def findings(self):
        """Return what was done to each function from the order to jump to the end."""
        return [witness.findings("freeze", "end") for witness in
                (self.witness, *(device.witness for device in self.devices))]

    def report(self):
        """Return all that was measured, as it is written down for others."""
        marks, lines, machine = self.machine.marks, self.lines(), self.machine
        adopted = marks["adopted"] - ENABLING
        resets = [event for event in machine.trace(REGISTER_WRITE, None, "freeze", "end")
                  if event.fields["register"] == CTRL and event.fields["value"] & CTRL_RST]
        functions = []
        for fact, found in zip(self.facts, self.findings()):
            line, physical = lines[fact.name], fact.name == PHYSICAL
            numbers = {
                "bdf": fact.bdf,
                "drivers": fact.drivers,
                "liveupdate": fact.states,
                "faults": len(machine.trace("vtd_dmar_fault", fact.bdf, "load")),
                "config_writes": len([event for event in found.config_writes
                                      if not physical or event.time < adopted]),
                "config_writes_of_igb": len([event for event in found.config_writes
                                             if physical and event.time >= adopted]),
                "resets": len(found.resets) + len(resets if physical else []),
                "longest_gap_ms": milliseconds(line.longest_gap(marks["freeze"], marks["end"])),
                "longest_gap_before_ms": milliseconds(line.longest_gap(marks["load"],
                                                                       marks["freeze"])),
            }
            if not physical:
                account = self.accounts[fact.name]
                numbers |= {"frames": account.given, "lost": account.lost}
            functions.append(numbers)
        return {
            **self.head(),
            "adopted_ms": milliseconds(self.took("freeze", "adopted")),
            "vfs": self.vfs,
            "functions": functions,
            "host": [{"frames": account.given, "lost": account.lost, "sent": SENT,
                      "sent_lost": SENT - sent}
                     for account, sent in zip(self.host_accounts, self.host_sent)],
        }

    def complaints(self, report):
        """Return what is not as it has to be."""
        marks, lines = self.machine.marks, self.lines()
        found = []
        for fact, numbers, findings in zip(self.facts, report["functions"], self.findings()):
            name = fact.name
            found += [f"{name}: {key.replace('_', ' ')}: {numbers[key]}" for key in
                      ("lost", "faults", "config_writes", "resets") if numbers.get(key)]
            found += [f"{name}: {event}" for event in
                      (*findings.bridge_changes, *findings.translation)]
            wanted = "igb" if name == PHYSICAL else "vfio-pci"
            found += [f"{name}: its driver is {driver}" for driver in fact.drivers
                      if driver != wanted]
            if name != PHYSICAL:
                found += [f"{name}: no frames"] * (not numbers["frames"])
                found += [f"{name}: {wrong}" for wrong in
                          lines[name].faults(marks["freeze"], marks["end"])]
        for when, numbers in zip(("before", "after"), report["host"]):
            found += [f"the host's network, {when}: {key.replace('_', ' ')}: {numbers[key]}"
                      for key in ("lost", "sent_lost") if numbers[key]]
            found += [f"the host's network, {when}: no frames"] * (not numbers["frames"])
        if set(report["vfs"]) != {len(RATES)}:
            found.append(f"virtual functions before and after: {report['vfs']}")
        if "dropped a write" in self.machine.console_text("freeze"):
            found.append("a driver wrote to a function that was not to be touched")
        return found

    def account(self, report):
        """Show what happened, and end with the verdict."""
        show, facts, numbers = self.show, self.facts, report["functions"]
        names = [fact.name for fact in facts]
        show.heading("Account")
        show.table([["kernel", f"{report['kernel_before']} -> {report['kernel_after']}"],
                    ["virtual functions", " -> ".join(map(str, report["vfs"]))]])
        show.line()
        show.table([
            ["address", *(fact.bdf for fact in facts)],
            *zip(["device", "IDs"], *(fact.model() for fact in facts)),
            ["driver", *(" -> ".join(fact.drivers) for fact in facts)],
            *zip(["liveupdate before the jump", "liveupdate after the jump",
                  "liveupdate at the end"], *(fact.states for fact in facts)),
        ], names)
        show.line()
        self.show_phases(report)
        show.heading("Verdict")
        show.table([
            ["frames lost", *(f"{n['lost']} of {n['frames']}" if "lost" in n else "see below"
                              for n in numbers)],
            ["IOMMU faults", *(n["faults"] for n in numbers)],
            ["config writes", *(n["config_writes"] for n in numbers)],
            ["after that, by igb", *(n["config_writes_of_igb"] for n in numbers)],
            ["resets", *(n["resets"] for n in numbers)],
            ["longest gap in its DMA", *(f"{n['longest_gap_ms']:.0f} ms" for n in numbers)],
            ["longest gap before the update", *(f"{n['longest_gap_before_ms']:.0f} ms"
                                                for n in numbers)],
        ], names)
        show.line("  (from the order to jump to the end, in QEMU's trace; config writes to "
                  f"{PHYSICAL} until igb adopts it, {report['adopted_ms']:.0f} ms after the order)")
        show.line()
        show.table([
            ["frames lost", *(f"{n['lost']} of {n['frames']}" for n in report["host"])],
            ["frames sent and lost", *(f"{n['sent_lost']} of {n['sent']}" for n in report["host"])],
        ], [f"the host's network {when}" for when in ("before", "after")])
