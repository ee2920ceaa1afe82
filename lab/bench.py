# SPDX-License-Identifier: GPL-2.0-only
"""What an update costs, compared with a bare kexec of the same machine and kernel.

Everything is counted in the guest's instructions, of two nanoseconds each, so neither the machine
that runs QEMU nor what else it does matters. The blackout is what a virtual machine would stand
still for: from reboot(2) to the first program of the next kernel, and from there what its memory
and devices take until the devices have page tables of the new kernel. Preserving comes before it.
"""

import json
import re
import subprocess
from dataclasses import asdict, dataclass, field

from . import Machine
from .memory import GIGANTIC, HUGE, SINGLE, WHOLE, Kind, allocate, took
from .topology import Nvme, Port, Switch

IOVA = 0x10_0000_0000
SPACING = 1 << 24
DEVICE_MEMORY = 8 << 20
MORE_IOVA = 0x20_0000_0000
BELOW_A_SWITCH = 8
TERMINAL = 'svg size 960,400 font "sans,12" background "white"'
TOKENS = {"device": 1, "memory": 100, "iommufd": 200, "table": 300}


@dataclass(frozen=True)
class Case:
    """What crosses: memory of a kind, in MiB, and devices."""

    memory: int = 0
    kind: Kind = WHOLE
    devices: int = 0
    running: bool = True

    def __str__(self):
        """Name it."""
        mode = "running" if self.running else "idle"
        parts = [f"{self.memory} MiB, {self.kind.name}"] if self.memory else []
        parts += [f"{self.devices} {mode}"] if self.devices else []
        return "; ".join(parts) or "nothing"


@dataclass
class Result:
    """Milliseconds of each step of an update, and of a bare kexec of the same machine."""

    case: Case
    kernels: tuple
    mode: str
    bare: float
    steps: dict = field(default_factory=dict)

    @property
    def blackout(self):
        """The update's, in ms."""
        return sum(value for name, value in self.steps.items() if name != "preserve")

    @property
    def factor(self):
        """How many times a bare kexec it takes."""
        return self.blackout / self.bare

    def to_json(self):
        """Return it as JSON has it."""
        return {**asdict(self), "blackout": self.blackout, "factor": self.factor}


def topology(devices):
    """Return ports with so many drives below them."""
    names = [f"nvme{i}" for i in range(devices)]
    return tuple(Port(Switch(f"s{i}", *(Nvme(name) for name in names[i:i + BELOW_A_SWITCH])))
                 for i in range(0, devices, BELOW_A_SWITCH))


class Bench:
    """A machine in which a case is measured."""

    def __init__(self, machine, case):
        """Take the machine, which runs, and the case."""
        self.machine = machine
        self.case = case
        self.owner = machine.worker("owner")
        self.steps = {}

    def step(self, name, *words):
        """Run a command, and add what it took to a step."""
        self.owner(*words)
        self.steps[name] = self.steps.get(name, 0) + took(self.owner)

    def jump(self):
        """Update to the next kernel; returns the ms from reboot(2) to its first program."""
        self.machine.kexec_load()
        self.machine.kexec_go(command="kexec_go_at")
        log = self.machine.console_text("freeze")
        at = int(re.search(r"lab: kexec at (\d+) ns", log).group(1))
        return (int(self.machine.agent("began")) - at) / 1e6

    def devices(self):
        """Number the devices."""
        return range(self.case.devices)

    def set_up(self):
        """Give the owner its memory and devices."""
        owner, case = self.owner, self.case
        if case.memory:
            allocate(owner, "B", case.memory << 20, case.kind)
        if not case.devices:
            return
        bdfs = [self.machine.bdf(f"nvme{i}") for i in self.devices()]
        for bdf in bdfs:
            self.machine.bind_vfio(bdf)
        owner("iommufd", "I")
        owner("ioas", "I", "A")
        for i, bdf in enumerate(bdfs):
            owner("vfio_open", f"D{i}", bdf)
            owner("vfio_bind", f"D{i}", "I")
            if not i:
                owner("hwpt_alloc", "I", "D0", "A", "H")
            owner("vfio_attach", f"D{i}", "H")
            owner.dma_memory(f"M{i}", DEVICE_MEMORY, IOVA + i * SPACING)
            if case.running:
                owner("nvme_start", f"N{i}", f"D{i}", f"M{i}", IOVA + i * SPACING)
        if case.memory:
            owner("ioas_map_file", "I", "A", "B", 0, case.memory << 20, MORE_IOVA)
        if case.running:
            owner("hwpt_mark", "I", "H", TOKENS["table"])

    def preserve(self):
        """Put everything into a session."""
        self.owner("session_create", "S", "bench")
        if self.case.memory:
            self.step("preserve", "preserve", "S", TOKENS["memory"], "B")
        for i in self.devices():
            self.step("preserve", "preserve", "S", TOKENS["memory"] + 1 + i, f"M{i}")
        if self.case.devices and self.case.running:
            self.step("preserve", "preserve", "S", TOKENS["iommufd"], "I")
        for i in self.devices():
            self.step("preserve", "preserve", "S", TOKENS["device"] + i, f"D{i}")

    def take_over(self):
        """Take everything out of the session, and give devices page tables of this kernel."""
        case = self.case
        self.owner("session_retrieve", "S", "bench")
        if case.devices and case.running:
            self.step("retrieve devices", "retrieve", "S", TOKENS["iommufd"], "I")
        for i in self.devices():
            self.step("retrieve devices", "retrieve", "S", TOKENS["device"] + i, f"D{i}")
        if case.devices and not case.running:
            self.owner("iommufd", "I")
        for i in self.devices():
            self.step("retrieve devices", "vfio_bind", f"D{i}", "I")
        if case.memory:
            self.step("retrieve memory", "retrieve", "S", TOKENS["memory"], "B")
        for i in self.devices():
            self.step("retrieve memory", "retrieve", "S", TOKENS["memory"] + 1 + i, f"M{i}")
        if case.devices:
            self.map()
        self.owner("finish", "S")

    def map(self):
        """Make a page table of this kernel, and attach the devices to it."""
        self.step("map", "ioas", "I", "A")
        for i in self.devices():
            self.step("map", "ioas_map_file", "I", "A", f"M{i}", 0, DEVICE_MEMORY,
                      IOVA + i * SPACING)
        if self.case.memory:
            self.step("map", "ioas_map_file", "I", "A", "B", 0, self.case.memory << 20, MORE_IOVA)
        self.step("map", "hwpt_alloc", "I", "D0", "A", "H")
        for i in self.devices():
            self.step("hand over", "vfio_attach", f"D{i}", "H")


def measure(case, kernels, mode, say=print):
    """Measure a case and the bare kexec of the same machine, whose kernels these are."""
    # What is preserved is moved out of KHO's scratch memory, which has to be there beside it.
    memory = max(1024, case.memory * (8 if case.kind.pieces else 5) // 4 + 64 * case.devices
                 + (1536 if case.memory else 0))
    # A huge page is where its size fits, and those of 1 GiB not below 4 GiB for the most part.
    memory += 3072 if case.kind is GIGANTIC else 0
    options = {"topology": topology(case.devices), "icount": True, "memory": f"{memory}M",
               "scalable": mode == "scalable", "patience": 3600}
    name = re.sub(r"\W+", "-", f"bench-{case}-{kernels[0]}-{mode}")
    with Machine(f"{name}-bare", *kernels, **options) as machine:
        kernels = machine.kernel.flavour, machine.next_kernel.flavour
        say(f"bench: {case} ({' to '.join(kernels)}, {mode})")
        bare = Bench(machine, Case()).jump()
    with Machine(name, *kernels, **options) as machine:
        bench = Bench(machine, case)
        bench.set_up()
        bench.preserve()
        bench.steps["boot"] = bench.jump()
        bench.take_over()
    return Result(case, kernels, mode, bare, bench.steps)


STEPS = ("preserve", "boot", "retrieve devices", "retrieve memory", "map", "hand over")
SIZES = {WHOLE: (1024, 2048, 4096, 8192), SINGLE: (512, 1024, 2048, 4096),
         HUGE: (1024, 2048, 4096, 8192), GIGANTIC: (1024, 4096, 8192)}
COUNTS = (1, 2, 4, 8, 16, 32)
VMS = tuple(Case(memory=8192, kind=kind, devices=8) for kind in (HUGE, SINGLE))
QUICK = (Case(memory=512), Case(memory=256, kind=SINGLE), Case(memory=512, kind=HUGE),
         Case(devices=2), Case(memory=512, devices=2))
ALL = (*(Case(memory=size, kind=kind) for kind, sizes in SIZES.items() for size in sizes),
       *(Case(devices=count, running=running) for running in (True, False) for count in COUNTS),
       *VMS)
# What the kernel of the pristine source can take along, too
BEFORE = (Case(memory=256), Case(memory=512), Case(memory=32, kind=SINGLE),
          Case(memory=64, kind=SINGLE), Case(memory=128, kind=SINGLE))


def table(results):
    """Yield the lines of a table of results, in ms, for each pair of kernels and mode."""
    for setting in dict.fromkeys((result.kernels, result.mode) for result in results):
        kernels, mode = setting
        yield f"{' to '.join(kernels)}, {mode} mode:"
        yield ""
        yield "| what crosses | bare kexec | " + " | ".join(STEPS) + " | blackout | times bare |"
        yield "| --- |" + " --- |" * (len(STEPS) + 3)
        for result in results:
            if (result.kernels, result.mode) != setting:
                continue
            steps = " | ".join(f"{result.steps.get(step, 0):.1f}" for step in STEPS)
            yield (f"| {result.case} | {result.bare:.1f} | {steps} | {result.blackout:.1f} |"
                   f" {result.factor:.3f} |")
        yield ""


def draw(path, title, label, series):
    """Draw lines of blackout in ms over something; series has points by name."""
    lines = [f"set terminal {TERMINAL}", f'set output "{path}"', f'set title "{title}"',
             f'set xlabel "{label}"', 'set ylabel "ms"', "set yrange [0:*]", "set key left top"]
    for i, points in enumerate(series.values()):
        lines += [f"$Data{i} << END", *(f"{x} {y}" for x, y in sorted(points)), "END"]
    lines.append("plot " + ", ".join(f"$Data{i} with linespoints title '{name}'"
                                     for i, name in enumerate(series)))
    subprocess.run(["gnuplot"], input="\n".join(lines) + "\n", text=True, check=True,
                   stderr=subprocess.PIPE)


def plots(folder, results):
    """Draw what grows with memory and what grows with devices."""
    memory, devices = {}, {}
    for result in results:
        case = result.case
        if case.memory and not case.devices:
            memory.setdefault(case.kind.name, []).append((case.memory / 1024, result.blackout))
            memory.setdefault("bare kexec", []).append((case.memory / 1024, result.bare))
        elif case.devices and not case.memory:
            kind = "running" if case.running else "idle"
            devices.setdefault(kind, []).append((case.devices, result.blackout))
            if case.running:
                devices.setdefault("bare kexec", []).append((case.devices, result.bare))
    if memory:
        draw(folder / "memory.svg", "Blackout over preserved memory", "GiB", memory)
    if devices:
        draw(folder / "devices.svg", "Blackout over devices", "devices", devices)


def run(folder, runs, say=print):
    """Measure each (case, kernels, mode); leaves bench.json, bench.md and plots in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for case, kernels, mode in runs:
        results.append(measure(case, kernels, mode, say))
        (folder / "bench.json").write_text(json.dumps([r.to_json() for r in results], indent=1))
        (folder / "bench.md").write_text("\n".join(table(results)))
    first = results[0].kernels, results[0].mode
    plots(folder, [result for result in results if (result.kernels, result.mode) == first])
    return table(results)


def everything(kernels, mode):
    """Return all runs: those of a pair of kernels in a mode, and some to compare them with."""
    other = "legacy" if mode == "scalable" else "scalable"
    return [*((case, kernels, mode) for case in ALL),
            *((case, kernels, other) for case in (Case(devices=8), VMS[0])),
            *((case, ("stock", "stock"), mode) for case in BEFORE)]
