# SPDX-License-Identifier: GPL-2.0-only
"""What the demos of demo/run share: devices' way through an update, and what it came to."""

import contextlib
import json
import shutil
import subprocess
from dataclasses import dataclass, field

from demo.picture import draw
from lab import paths, pci

OUT = paths.BUILD / "demo"
# How long devices work before an update and after it, in seconds
BEFORE = 2
AFTER = 1.5


class Failure(Exception):
    """Something is not as it should be."""


def expect(what, got, wanted):
    """Raise Failure unless what was measured is what is wanted; return it."""
    if got != wanted:
        raise Failure(f"{what}:\n  it is      {got}\n  instead of {wanted}")
    return got


def milliseconds(seconds):
    """Return a time in milliseconds, as it is written down."""
    return round(seconds * 1000, 1)


@dataclass
class Facts:
    """What is known of a device on its way through the update.

    ids: vendor and device, where its config space does not have them.
    """

    name: str
    bdf: str
    config: bytes = b""
    ids: bytes = b""
    states: list = field(default_factory=list)
    drivers: list = field(default_factory=list)
    kept_out: str = ""

    def model(self):
        """Return its name and IDs, by its config space and the PCI ID database."""
        config = self.ids + self.config[len(self.ids):]
        ids = f"{pci.word(config, 0):04x}:{pci.word(config, 2):04x}"
        rows = (" ".join(f"{byte:02x}" for byte in config[i:i + 16]) for i in range(0, 64, 16))
        dump = f"{self.bdf[5:]} x\n" + "".join(f"{i:x}0: {row}\n" for i, row in enumerate(rows))
        with contextlib.suppress(OSError, subprocess.SubprocessError, IndexError):
            said = subprocess.run(["lspci", "-mm", "-F", "/dev/stdin"], input=dump, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
            return [said.stdout.split('"')[5], ids]
        return ["", ids]


class Way:
    """Some devices' way through an update.

    A demo has outgoing(), incoming(), report(), series(), account() and complaints(). Of its
    phases there are the names, and the marks of begin and end.
    """

    name = ""
    headline = ""
    topology = ()
    what = ""
    phases = ()
    picture = "timeline"
    written = "report.json"
    good = ""

    def __init__(self, machine, show, devices):
        """Take a machine that runs, and the names of devices."""
        self.machine = machine
        self.show = show
        self.facts = [Facts(name, machine.bdf(name)) for name in devices]
        self.releases = [machine.sh("uname -r")]

    def took(self, since, until):
        """Return how long it was between two marks."""
        return self.machine.marks[until] - self.machine.marks[since]

    def states(self, *wanted):
        """See that sysfs says of the devices what it should, and remember that.

        That is the same of all, or something of each.
        """
        for fact, state in zip(self.facts, wanted if wanted[1:] else wanted * len(self.facts)):
            said = self.machine.sh(f"cat /sys/bus/pci/devices/{fact.bdf}/liveupdate").strip()
            fact.states.append(expect(f"{fact.name}: liveupdate in sysfs", said, state))
        return ", ".join(dict.fromkeys(wanted))

    def load(self):
        """Load the next kernel."""
        with self.show.step("load the next kernel") as result:
            self.machine.kexec_load()
            result.append(self.machine.next_kernel.guest_image)

    def jump(self):
        """Replace the kernel."""
        show, machine = self.show, self.machine
        show.begin("jump")
        machine.kexec_go()
        if not self.took("freeze", "jump") > 0 < self.took("jump", "kernel"):
            raise Failure("the kernels' last and first words are not on the console")
        show.done("freeze: to the old kernel's last word", self.took("freeze", "jump"))
        show.done("jump: to the new kernel's first word", self.took("jump", "kernel"))
        self.releases.append(machine.sh("uname -r"))
        show.done(f"boot: Linux {self.releases[-1]} is up", self.took("kernel", "ready"))
        if self.releases[0] == self.releases[1]:
            raise Failure(f"both kernels are {self.releases[0]}")

    def head(self):
        """Return what each report begins with."""
        return {
            "kernel_before": self.releases[0],
            "kernel_after": self.releases[1],
            "phases": {name: milliseconds(self.took(since, until))
                       for name, since, until in self.phases},
        }

    def draw(self):
        """Draw the timeline; returns the paths of the pictures."""
        marks = self.machine.marks
        zero = marks["freeze"]
        series = [(name, [when - zero for when in line.within(marks["load"], marks["end"])])
                  for name, line in self.series()]
        phases = [(name, marks[since] - zero, marks[until] - zero)
                  for name, since, until in self.phases]
        return draw(OUT, series, phases, self.releases, name=self.picture)

    def show_phases(self, report):
        """Show how long each phase took."""
        self.show.table([[name, f"{took:7.0f} ms"] for name, took in report["phases"].items()])

    def conclude(self, picture):
        """Write down, draw and show what was measured; raises Failure if it is not good."""
        show = self.show
        OUT.mkdir(parents=True, exist_ok=True)
        report = self.report()
        (OUT / self.written).write_text(json.dumps(report, indent=2) + "\n")
        drawn = self.draw()
        if picture:
            shutil.copyfile(drawn[0], picture)
        self.account(report)
        show.line()
        show.line("  " + " ".join(paths.short(path) for path in (*drawn, OUT / self.written)))
        complaints = self.complaints(report)
        if complaints:
            raise Failure("the update was not a good one:\n  " + "\n  ".join(complaints))
        show.line("  " + show.paint(self.good, "32"))
