# SPDX-License-Identifier: GPL-2.0-only
"""Updates in a row in one machine, under work, with exact accounts of what each kernel has.

A drive and a network controller go through all of them in running mode, another drive in idle
mode. After each update, when its session is finished and everything is at work again, what the
kernel counts is read. What an update forgets to give back crosses to the next kernel, and to the
one after that: it shows as an account that does not come back to its value.

Kernels that take turns have accounts of their own. Ledger says what drift is.
"""

import json
import re
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass

from . import GuestError, Igb, Machine, MachineError, Nvme, Port, paths, vtd
from .curves import draw
from .running import RunningSet

TOPOLOGY = (Port(Nvme("nvme0")), Port(Igb("igb0")), Port(Nvme("nvme1")))
RUNNING, IDLE = ("nvme0", "igb0"), "nvme1"
# The drive's queue lasts for 200 seconds, 340 on kernels for debugging: enough for an update on a
# host that has more to do.
RATE, RATE_SLOW = 5, 3
KMEMLEAK_EVERY = 5
READINGS = 5
# In seconds: what ends hours of a run has to be more than a busy host.
PATIENCE = 300
IDLE_IOVA = 0x30_0000_0000
IDLE_MEMORY = "8m"
IDLE_DATA = (64, 512, 11)
# In seconds: twice the time between two commands or frames, on any kernel.
LEAST_PHASE = 1
NUMBER = re.compile(r"0x[0-9a-f]+|0|[1-9][0-9]*")
PHASES = ("freeze", "jump", "kernel", "retrieved")


class SoakError(Exception):
    """Something was lost, or does not come back to where it was."""


@dataclass(frozen=True)
class Account:
    """Something that is counted: how far it may be from its first value, and what it is."""

    bound: int
    unit: str
    meaning: str


# What is free varies with what a kernel did when. A restored page table keeps its domain ID, and
# its successor takes the lowest that is free: so the highest goes up and down. All else is exact.
ACCOUNTS = {
    "boot memory": Account(0, "KiB", "MemTotal before anything is retrieved"),
    "memory": Account(0, "KiB", "MemTotal after finish, with what was preserved"),
    "free": Account(2048, "KiB", "MemFree and the processors' lists, caches dropped"),
    "slab": Account(1024, "KiB", "Slab, caches dropped"),
    "page tables": Account(512, "KiB", "PageTables, of processes"),
    "stacks": Account(256, "KiB", "KernelStack"),
    "per cpu": Account(128, "KiB", "Percpu"),
    "vmalloc": Account(128, "KiB", "VmallocUsed"),
    "shmem": Account(0, "KiB", "Shmem: memfds"),
    "iommu": Account(0, "pages", "nr_iommu_pages: the IOMMU's tables"),
    "pins": Account(0, "pages", "nr_foll_pin_acquired less nr_foll_pin_released"),
    "files": Account(0, "files", "open files, of /proc/sys/fs/file-nr"),
    "descriptors": Account(0, "files", "of the process that has the devices"),
    "sessions": Account(0, "lines", "what debugfs has of sessions and their files"),
    "domains": Account(0, "IDs", "domain IDs in the IOMMU's tables"),
    "highest domain": Account(4, "ID", "the highest of them"),
    "scratch": Account(0, "bytes", "KHO's scratch memory"),
}
MEMINFO = {"memory": "MemTotal", "slab": "Slab", "page tables": "PageTables",
           "stacks": "KernelStack", "per cpu": "Percpu", "vmalloc": "VmallocUsed",
           "shmem": "Shmem"}
# What processors count by themselves is added up when stat_refresh is read.
READ = (
    "echo 3 >/proc/sys/vm/drop_caches; cat /proc/sys/vm/stat_refresh;"
    "cat /proc/meminfo; grep -E 'nr_foll_pin|nr_iommu' /proc/vmstat;"
    "echo lists $(sed -n 's/^ *count: *//p' /proc/zoneinfo);"
    "echo files $(cut -f1 /proc/sys/fs/file-nr);"
    "echo sessions $(wc -l </sys/kernel/debug/liveupdate/sessions);"
    "echo scratch $(cat /sys/kernel/debug/kho/out/scratch_len);"
    "echo descriptors $(ls /proc/{pid}/fd | wc -l)")


def change(points):
    """Return by how much the line that fits some points best rises, from the first to the last."""
    xs, ys = zip(*points)
    return statistics.linear_regression(xs, ys).slope * (xs[-1] - xs[0])


class Ledger:
    """The readings of all accounts, and what drift is.

    The first update into each kernel does not count: it came from a kernel that QEMU loaded.
    The second sets an account's value, and each reading has to be within the account's bound of
    that; with a bound of 0 it is the same number each time. From LINE readings on, the line that
    fits them best (least squares) may not rise or fall by more than half the bound, over all of
    the run.
    """

    LINE = 20

    def __init__(self, accounts=None):
        """Begin; accounts has an Account for each name."""
        self.accounts = accounts or ACCOUNTS
        self.readings = {}

    def enter(self, update, kernel, reading):
        """Enter a reading, value by name; returns a complaint for each account that drifts.

        Another reading after the same update takes the place of the one before.
        """
        complaints = []
        for name, value in reading.items():
            points = self.readings.setdefault(kernel, {}).setdefault(name, [])
            if points and points[-1][0] == update:
                points.pop()
            points.append((update, value))
            wrong = self._drift(self.accounts[name], points[1:])
            if wrong:
                complaints.append(f"{name} ({self.accounts[name].meaning}) of {kernel} drifts: "
                                  f"{wrong}")
        return complaints

    def _drift(self, account, points):
        """Say what is wrong with an account's readings, if anything."""
        if not points:
            return None
        (begin, first), (_, last) = points[0], points[-1]
        if abs(last - first) > account.bound:
            return (f"{last} {account.unit}, and {first} after update {begin}; "
                    f"the bound is {account.bound}")
        if account.bound and len(points) >= self.LINE and abs(change(points)) > account.bound / 2:
            return (f"a trend of {change(points):+.0f} {account.unit} since update {begin}; "
                    f"the bound is {account.bound / 2:g}")
        return None

    def summary(self):
        """Return what the accounts came to, by kernel and name."""
        found = {}
        for kernel, accounts in self.readings.items():
            for name, points in accounts.items():
                values = [value for _, value in points[1:]]
                if values:
                    trend = change(points[1:]) if len(values) > 1 else 0
                    found.setdefault(kernel, {})[name] = {
                        "unit": self.accounts[name].unit, "bound": self.accounts[name].bound,
                        "readings": len(values), "first": values[0], "last": values[-1],
                        "least": min(values), "most": max(values), "trend": round(trend, 1)}
        return found


class Devices:
    """The devices of a machine, at work through one update after the other."""

    def __init__(self, machine):
        """Take a machine that runs, and put its devices to work."""
        self.machine = machine
        self.dry = []
        self.owner = RunningSet(machine, rate=RATE_SLOW if machine.slow else RATE)
        self.idle = machine.worker("idle")
        self.owner.open(*RUNNING)
        self.owner.start()
        bdf = machine.bdf(IDLE)
        machine.bind_vfio(bdf)
        self.idle.vfio("D", bdf)
        self._drive()
        self.idle("nvme_write", "N", *IDLE_DATA)
        self.idle("nvme_flush", "N")

    def _drive(self):
        """Start the idle drive's driver."""
        self.idle.dma_memory("M", IDLE_MEMORY, IDLE_IOVA)
        self.idle("nvme_start", "N", "D", "M", IDLE_IOVA)

    def preserve(self):
        """Put all into sessions."""
        self.owner.preserve()
        self.idle("session_create", "S", "idle")
        self.idle("preserve", "S", 1, "D")

    def take_over(self):
        """Take all out of the sessions, and go on."""
        self.owner.retrieve()
        self._see_queues()
        self.owner.handover()
        self.owner.finish()
        self.idle("session_retrieve", "S", "idle")
        self.idle("retrieve", "S", 1, "D")
        self.idle.vfio_attach("D")
        self._drive()
        self.idle("nvme_read_check", "N", *IDLE_DATA)
        self.idle("finish", "S")
        self.idle("close", "S")

    def _see_queues(self):
        """See which drive has no work left: it may be silent, which a slow host can bring about."""
        self.dry = [device.name for device in self.owner.devices.values()
                    if device.is_drive and not self.owner.account(device)["busy"]]

    def see_work(self):
        """See that all work so far came out right; returns how much that is."""
        done = {}
        for device in self.owner.devices.values():
            account = self.owner.account(device)
            bad = {key: account[key] for key in ("errors", "wrong", "strange", "lost", "repeated",
                                                 "foreign") if account.get(key)}
            if bad:
                raise SoakError(f"{device.name}: {bad} in {account}")
            done[device.name] = account["completed" if device.is_drive else "good"]
        return done

    def see_undisturbed(self, since):
        """See that nobody touched the running devices, and that none of their DMA was refused."""
        for device in self.owner.devices.values():
            complaints = device.witness.findings("freeze", "retrieved").complaints()
            faults = self.machine.trace("vtd_dmar_fault", device.bdf, since)
            complaints += [f"{len(faults)} IOMMU faults, the first: {faults[0]}"] if faults else []
            if complaints:
                raise SoakError(f"{device.name} ({device.bdf}): {'; '.join(complaints)}")

    def see_dma(self):
        """See that the running devices did DMA in each phase; returns the longest pauses, in s."""
        marks, pauses = self.machine.marks, {}
        for name, line in self.owner.timelines().items():
            if name in self.dry:
                continue
            for begin, end in zip(PHASES, PHASES[1:]):
                took = marks[end] - marks[begin]
                if took >= LEAST_PHASE and not line.within(marks[begin], marks[end]):
                    raise SoakError(f"{name}: no DMA from {begin} to {end}, {took:.1f} s")
            pauses[name] = line.longest_gap(marks[PHASES[0]], marks[PHASES[-1]])
        return pauses

    def settle(self):
        """End the work and see that nothing of it is missing; returns what there was."""
        accounts = self.owner.settle()
        for name, account in accounts.items():
            if account.lost or account.good != account.given:
                raise SoakError(f"{name}: {account}")
        return {name: account.good for name, account in accounts.items()}


class Soak:
    """A run: updates in a row, and the report on it."""

    def __init__(self, machine, updates, folder, say=print, meddle=None):
        """Take the machine, not yet started, how many updates are wanted, and where reports go.

        say takes lines for people. meddle(machine, update) is called in the incoming kernel,
        for who wants to see that something is noticed.
        """
        self.machine = machine
        self.updates = updates
        self.ledger = Ledger()
        self.done = []
        self.lost = None
        self.work = {}
        self._say = say
        self._meddle = meddle
        self._every = max(1, min(50, updates // 20))
        self._began = None
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def run(self):
        """Do it; returns True when all went well. Whatever happens, there is a report."""
        try:
            with self.machine:
                devices = Devices(self.machine)
                self._began = time.monotonic()
                while len(self.done) < self.updates:
                    self._update(devices)
                self.work = devices.settle()
                self._see_all_given_back(devices)
        except (GuestError, MachineError, SoakError, OSError) as error:
            self.lost = f"update {len(self.done) + 1}: {error}"
        except KeyboardInterrupt:
            self.lost = f"interrupted in update {len(self.done) + 1}"
        self.report()
        return self.lost is None

    def _update(self, devices):
        """Do one update, read the accounts and judge."""
        number, m = len(self.done) + 1, self.machine
        began = time.monotonic()
        m.mark("update")
        devices.owner.refill()
        devices.preserve()
        m.kexec()
        boot = self._meminfo(m.sh("cat /proc/meminfo"))["MemTotal"]
        devices.take_over()
        if self._meddle:
            self._meddle(m, number)
        reading, drifts = self._read(devices, {"boot memory": boot})
        self.work = devices.see_work()
        devices.see_undisturbed("update")
        pauses = devices.see_dma()
        leaks = m.kmemleak() if number % KMEMLEAK_EVERY == 0 or number == self.updates else ""
        if leaks:
            raise SoakError(f"kmemleak in {m.kernel.flavour}:\n{leaks}")
        self.done.append({"update": number, "kernel": m.kernel.flavour,
                          "seconds": round(time.monotonic() - began, 2),
                          "boot": round(m.marks["ready"] - m.marks["kernel"], 2),
                          "dry": devices.dry,
                          "pauses": {name: round(pause, 3) for name, pause in pauses.items()},
                          "accounts": reading})
        if m.splats():
            raise SoakError(f"the kernel complained: {m.splats()[0]}")
        if drifts:
            raise SoakError("\n".join(drifts))
        m.forget("freeze")
        if number % self._every == 0 or number == self.updates:
            self._say(self._progress())
            self.report(quiet=True)

    def _read(self, devices, reading):
        """Read and enter the accounts; returns all of them, and what drifts.

        On a busy host some of what a kernel frees it frees late: so what drifts is read again.
        """
        number, m = len(self.done) + 1, self.machine
        for _ in range(READINGS):
            reading.update(self.read(devices))
            drifts = self.ledger.enter(number, m.kernel.flavour, reading)
            if not drifts:
                break
            m.sh("sleep 2")
        return reading, drifts

    @staticmethod
    def _meminfo(text):
        """Return the numbers of /proc/meminfo and of lines of that form, by the first word."""
        lines = (line.replace(":", " ").split() for line in text.splitlines())
        return {words[0]: sum(int(word, 0) for word in words[1:] if NUMBER.fullmatch(word))
                for words in lines if words}

    def read(self, devices):
        """Read the accounts, at this place of the update."""
        m = self.machine
        found = self._meminfo(m.sh(READ.format(pid=devices.owner.worker.pid())))
        domains = {entry.domain for entry in vtd.Tables(m).entries().values()}
        return {
            **{name: found[key] for name, key in MEMINFO.items()},
            # What processors keep in lists of their own is free, too.
            "free": found["MemFree"] + 4 * found["lists"],
            **{name: found[name] for name in ("files", "descriptors", "sessions", "scratch")},
            "iommu": found["nr_iommu_pages"],
            "pins": found["nr_foll_pin_acquired"] - found["nr_foll_pin_released"],
            "domains": len(domains), "highest domain": max(domains)}

    def _see_all_given_back(self, devices):
        """See that no page stays pinned when the processes have gone."""
        devices.owner.worker.kill()
        devices.idle.kill()
        self.machine.sh("cat /proc/sys/vm/stat_refresh")
        found = self._meminfo(self.machine.sh("grep nr_foll_pin /proc/vmstat"))
        left = found["nr_foll_pin_acquired"] - found["nr_foll_pin_released"]
        if left:
            raise SoakError(f"{left} pages stay pinned for devices that are closed")

    # --- for people ---

    def _progress(self):
        """Return a line that says how far it is."""
        each = (time.monotonic() - self._began) / len(self.done)
        left = each * (self.updates - len(self.done))
        last = self.done[-1]
        pause = max(max(row["pauses"].values()) for row in self.done[-self._every:])
        return (f"{len(self.done):5} of {self.updates}  {each:.1f} s each, "
                f"{left // 3600:.0f} h {left % 3600 // 60:02.0f} min to go;  {last['kernel']}: "
                f"memory {last['accounts']['memory']} KiB, free {last['accounts']['free']}, "
                f"slab {last['accounts']['slab']}; longest pause in DMA {pause:.2f} s")

    def report(self, quiet=False):
        """Write the report and the picture; say what it came to."""
        seconds = [row["seconds"] for row in self.done]
        report = {
            "kernels": sorted({row["kernel"] for row in self.done}),
            "updates": len(self.done), "asked": self.updates, "failure": self.lost,
            "seconds": round(sum(seconds), 1), "work": self.work,
            "longest pause": max((max(row["pauses"].values()) for row in self.done), default=None),
            "accounts": self.ledger.summary(), "rows": self.done}
        path = self.folder / "report.json"
        path.write_text(json.dumps(report, indent=1) + "\n")
        if quiet:
            return
        for line in self._table():
            self._say(line)
        made = [path]
        if len(self.done) > 2:
            try:
                pauses = {row["update"]: max(row["pauses"].values()) for row in self.done}
                made.append(draw(self.folder, self.ledger, pauses))
            except (OSError, subprocess.CalledProcessError) as error:
                self._say(f"no picture: {error}")
        self._say("see " + " ".join(paths.short(path) for path in made))

    def _table(self):
        """Return the lines of the table at the end."""
        yield ""
        form = "{:<15} {:>7} {:>6} {:>10} {:>10} {:>10} {:>10} {:>9}".format
        for kernel, accounts in self.ledger.summary().items():
            yield form(kernel, "", "bound", "first", "least", "most", "last", "trend")
            for name, a in accounts.items():
                yield form(name, a["unit"], a["bound"], a["first"], a["least"], a["most"],
                           a["last"], f"{a['trend']:+.0f}")
            yield ""
        if self.done:
            pause = max(max(row["pauses"].values()) for row in self.done)
            yield f"done by the devices: {self.work}; longest pause in their DMA {pause:.2f} s"
            dry = [row["update"] for row in self.done if row["dry"]]
            if dry:
                yield f"the host was too slow: a drive's queue ran dry in {len(dry)} updates: {dry}"
        yield (f"{len(self.done)} of {self.updates} updates went well"
               + (f"; then: {self.lost}" if self.lost else ": nothing lost, nothing drifts"))


def interrupt(number, frame):
    """Take SIGTERM like an interrupt from the keyboard."""
    del number, frame
    raise KeyboardInterrupt


def soak(kernel, next_kernel, updates, **options):
    """Run updates in a row, with lines on the terminal; returns whether all went well."""
    signal.signal(signal.SIGTERM, interrupt)
    machine = Machine(f"soak-{kernel}", kernel, next_kernel, topology=TOPOLOGY, patience=PATIENCE,
                      **options)
    return Soak(machine, updates, paths.BUILD / "soak" / kernel,
                say=lambda line: print(line, flush=True)).run()
