# SPDX-License-Identifier: GPL-2.0-only
"""A virtual machine in the lab's machine, with devices passed through to it.

The outer machine has a Debian with QEMU, and KVM on the processors' SVM. The inner one runs a
kernel of the lab and one program (tests/guest/inner.c), which works with the devices by Linux's
own drivers and says on its console, twice a second, how far it has come.

    drive = Nvme("nvme0", content=stamped("nvme0"))
    with Machine("example", vm=True, topology=(Port(drive),)) as m:
        vm = InnerVm(m, ["nvme0"], words="inner.depth=32")
        vm.start()
        print(vm.wait(lambda p: p["done"] > 1000))

The words for the inner kernel's command line are those of tests/guest/inner.c, and Linux's own:
nvme_core.io_timeout=5 has the driver look after five seconds what became of a command.
"""

import fcntl
import functools
import re
import time

from . import paths
from .image import guest_program, run
from .machine import MachineError
from .topology import DRIVE_SIZE

QEMU = "qemu-system-x86_64"
FOLDER = "/var/lib/inner"
INITRD = "/run/lab/inner.cpio"
# Each character costs, and so does each look at another clock than the TSC, whose frequency the
# kernel cannot find out by itself. It carries nothing over, and needs no memory for that.
COMMAND_LINE = "console=ttyS0 quiet panic=-1 kho=off tsc=reliable tsc_early_khz={khz}"
KHZ = "awk '/cpu MHz/ { printf \"%d\", $4 * 1000; exit }' /proc/cpuinfo"
REPORT = re.compile(r"^inner: (.*) end\r?$", re.MULTILINE)
# More than two reports
TAIL = 4096
LOOK_S = 0.2
# It boots in ten seconds where nobody else is at work.
PATIENCE = 180


@functools.lru_cache(maxsize=None)
def stamped(name, size=DRIVE_SIZE):
    """Make an image whose blocks tell which they are, for the drive of a name; return its path."""
    program = guest_program().with_name("inner")
    path = paths.LAB / f"stamped-{name}-{size}.img"
    paths.LAB.mkdir(parents=True, exist_ok=True)
    with open(paths.LAB / "stamped.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists() or path.stat().st_mtime < program.stat().st_mtime:
            new = path.with_suffix(".new")
            run(program, "stamp", new, size, name)
            new.replace(path)
    return path


def parse(text):
    """Return the last whole report in a console's text, numbers as numbers; None without one."""
    found = REPORT.findall(text)
    if not found:
        return None
    return {key: _value(value) for key, _, value in
            (word.partition("=") for word in found[-1].split())}


def _value(word):
    """Return a number where it is one."""
    if re.fullmatch(r"\d+", word):
        return int(word)
    return float(word) if re.fullmatch(r"\d+\.\d+", word) else word


class InnerVm:
    """A virtual machine in a machine.

    devices are names of the machine's topology; memory is in MiB; words go to the inner kernel's
    command line; kernel is the flavour of that kernel, one of the machine's. Whoever starts it has
    its command: start() does so without anything about live updates.
    """

    def __init__(self, machine, devices, name="vm", *, memory=128, words="", kernel=None):
        """Describe it; nothing runs yet."""
        self.machine = machine
        self.name = name
        self.devices = list(devices)
        self.console = f"{FOLDER}/{name}.console"
        self.unit = f"inner-{name}"
        self._memory = memory
        self._words = words
        self._kernel = kernel or machine.kernel.flavour

    @functools.cached_property
    def _khz(self):
        """The frequency of the processors' TSC; it stays the same from kernel to kernel."""
        return int(self.machine.sh(KHZ))

    def command(self):
        """Return the command that starts it; what QEMU is told by others can follow."""
        command = [
            QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", "q35,accel=kvm,memory-backend=ram0,aux-ram-share=on",
            "-cpu", "host", "-m", f"{self._memory}M",
            "-object", f"memory-backend-memfd,id=ram0,size={self._memory}M,share=on",
            "-chardev", f"file,id=console,path={self.console},append=on",
            "-serial", "chardev:console",
            "-kernel", f"/images/{self._kernel}/bzImage", "-initrd", INITRD,
            "-append", f"{COMMAND_LINE.format(khz=self._khz)} {self._words}".strip(),
            "-object", "iommufd,id=iommufd0",
        ]
        for name in self.devices:
            command += ["-device", f"vfio-pci,host={self.machine.bdf(name)},iommufd=iommufd0"]
        return command

    def shell_command(self):
        """Return it as a shell takes it."""
        return " ".join(f"'{word}'" if " " in word else word for word in self.command())

    def prepare(self):
        """Give the devices to vfio-pci."""
        self.machine.sh(f"mkdir -p {FOLDER}; [ -e /dev/kvm ]")
        for name in self.devices:
            self.machine.bind_vfio(self.machine.bdf(name))

    def start(self):
        """Start it as a service of the machine."""
        self.prepare()
        self.machine.mark(self.unit)
        self.machine.sh(f"systemd-run -q --unit={self.unit} -p LimitMEMLOCK=infinity"
                        f" {self.shell_command()}")

    def stop(self):
        """End it."""
        self.machine.sh(f"systemctl stop {self.unit}")

    # --- what it says ---

    def text(self, size=None):
        """Return what its console said, or the last bytes of that."""
        how = f"tail -c {size}" if size else "cat"
        return self.machine.sh(f"[ ! -e {self.console} ] || {how} {self.console}")

    def progress(self):
        """Return its last report, or None."""
        return parse(self.text(TAIL))

    def wait(self, condition, timeout=PATIENCE):
        """Wait for a report of which a condition holds, and return it."""
        end = time.monotonic() + timeout
        while True:
            report = self.progress()
            if report and condition(report):
                return report
            if time.monotonic() > end:
                raise MachineError(f"the virtual machine {self.name} did not come so far within"
                                   f" {timeout:g} s; its report: {report}; its console:\n"
                                   f"{self.text(TAIL)}\n{self._journal()}")
            time.sleep(LOOK_S)

    def wait_reads(self, more, timeout=PATIENCE):
        """Wait until it has completed some reads more than it has now; returns its report."""
        before = self.progress()
        done = before["done"] if before else 0
        return self.wait(lambda report: report["done"] >= done + more, timeout)

    def _journal(self):
        """Return what QEMU said, when it was started here."""
        return self.machine.sh(f"journalctl -q --no-pager -u {self.unit} | tail -n 20", check=False)
