# SPDX-License-Identifier: GPL-2.0-only
"""A machine in QEMU: start it, act inside it, kexec it, read what happened to its devices.

    with Machine("example", topology=STANDARD) as m:
        w = m.worker("owner")
        w("memfd", "M", "1m")
        m.kexec()
        print(m.sh("uname -r"))
"""

import atexit
import bisect
import contextlib
import ctypes
import fcntl
import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass

from . import paths, pci, qemu, system as debian, trace
from .gdb import Debugger
from .image import ImageError, Kernel, initramfs, inner_files
from .topology import STANDARD, Run, arguments, function
from .vhost import Blk
from .wire import Wire

# no_timer_check: on a busy host the timer can be too slow for Linux's test of it, which panics.
# tsc=nowatchdog: Linux compares the TSCs of two processors while it boots. The one waits for the
# other with interrupts off, and its patience is measured by a clock that needs the timer interrupt
# then: it can stand still for ever (watchdog_wait_seq() of Linux 7.2 and 7.3).
# earlyprintk: what a kernel says before its console is there, such as why it cannot go on.
# unknown_nmi_panic: what a kernel would still say that stands still, see Machine._wait_kernel().
COMMAND_LINE = ("console=ttyS0 earlyprintk=serial,ttyS0,115200 liveupdate=on kho=on intel_iommu=on"
                " iommu=nopt panic=-1 retain_initrd no_timer_check"
                " tsc=nowatchdog unknown_nmi_panic")
# A shell on the console: in the initramfs, and where systemd runs.
SHELL = "lab.shell systemd.debug_shell=ttyS0"
SPLAT = re.compile(
    r"BUG:|WARNING:|KASAN|UBSAN|Oops|Kernel panic|refcount_t|possible recursive locking"
    r"|possible circular locking|inconsistent lock state|suspicious RCU usage|Call Trace"
    r"|general protection fault|INFO: task .* blocked|soft lockup|rcu:.*stall"
    r"|kmemleak: .* new suspected|Unable to handle|scheduling while atomic"
    r"|live update: dropped a write")
# KASAN's shadow counts as the kernel's own memory, of which KHO takes twice as much for its
# scratch area by default: more than there is in one piece. An eighth of all memory is shadow.
SCRATCH_KASAN = 320
SCRATCH_KASAN_EACH_GIB = 160
# Without five-level page tables: an interrupt while identify_cpu() has the CPU's features cleared
# makes KASAN take every address for a wild one (Linux 7.3.4, before any code of ours runs).
CPU = "max,la57=off"
# What a machine needs before anything else can be loaded: its devices' own drivers, which are
# there before vfio-pci and must leave preserved devices alone; and what systemd's disk needs.
NATIVE = {"BLK_DEV_NVME": "nvme", "IGB": "igb"}
DISK = {"VIRTIO_BLK": "virtio_blk", "EXT4_FS": "ext4"}
# systemd-udevd would load it, too, but only seconds after all else has started.
KVM = {"KVM_AMD": "kvm_amd"}
SMP = 2
# With more than one, QEMU's SVM delivers an interrupt to a virtual machine twice, in the end: the
# vector that VMRUN has delivered stays in QEMU as an exception that is pending, until the virtual
# machine is left. When the processor's turn is over before that, it is delivered once more.
VM_SMP = 1
PATIENCE = 60
# How many times as long everything may take with a kernel for debugging, or with systemd.
SLOWNESS = 4
QUIT_PATIENCE = 5
# How often to wait for a kernel that is slow.
ROUNDS = 4
# How often to look at a kernel that stands still, and how long it may take to panic.
LOOKS = 3
NMI_PATIENCE = 30
CONSOLE_BUFFER = 1 << 20
TAIL = 20
PR_SET_PDEATHSIG = 1
ENABLE_SRIOV = "/sys/module/vfio_pci/parameters/enable_sriov"
SHARE_MEMORY, SHARE_IOVA = 8 << 20, 1 << 40

_libc = ctypes.CDLL(None)


class MachineError(Exception):
    """A machine did not do what it should; says where its console and traces are."""


class GuestError(Exception):
    """A command failed in the machine; errno is the name of the error, like "EBUSY"."""

    def __init__(self, command, errno, message):
        """Say which command failed, how and why."""
        super().__init__(f"{command}: {errno}: {message}")
        self.command = command
        self.errno = errno
        self.message = message


@dataclass(frozen=True)
class Reply:
    """What a command in the machine answered: lines of output, then values."""

    lines: list
    values: list

    @property
    def text(self):
        """The lines of output as one text."""
        return "\n".join(self.lines)

    def __int__(self):
        """The first value as a number."""
        return int(self.values[0], 0)


class Lines(threading.Thread):
    """Calls a function with each line of a stream."""

    def __init__(self, stream, handle):
        """Take the stream, or a function that opens it."""
        super().__init__(daemon=True)
        self._source = stream
        self._take = handle
        self.start()

    def run(self):
        """Read until the stream ends."""
        stream = self._source() if callable(self._source) else self._source
        with contextlib.suppress(OSError):
            for line in stream or ():
                self._take(line.decode(errors="replace").rstrip("\r\n"))


class Channel:
    """A socket that QEMU connects to, for lines both ways."""

    def __init__(self, path, handle):
        """Listen at a path; handle each line that comes."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self._connection = None
        Lines(self._accept, handle)

    def _accept(self):
        """Wait for QEMU; returns a stream, or None when the channel was closed first."""
        with contextlib.suppress(OSError):
            self._connection, _ = self._listener.accept()
            return self._connection.makefile("rb")
        return None

    def send(self, text):
        """Send a line."""
        self._connection.sendall(text.encode() + b"\n")

    def close(self):
        """Hang up, also when nobody ever connected."""
        for part in (self._connection, self._listener):
            with contextlib.suppress(OSError):
                if part:
                    part.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Worker:
    """A process in the machine that keeps named objects; call it with a command."""

    def __init__(self, machine, name):
        """Take the machine and the name; the process starts with the first command."""
        self._machine = machine
        self.name = name

    def start(self, *words):
        """Begin a command without waiting for it."""
        self._machine.request(self.name, " ".join(str(word) for word in words))

    def wait(self, timeout=None):
        """Wait for the command that was begun; returns its Reply or raises GuestError."""
        return self._machine.reply(self.name, timeout)

    def __call__(self, *words, timeout=None):
        """Run a command; returns its Reply or raises GuestError."""
        self.start(*words)
        return self.wait(timeout)

    def fails(self, *words, timeout=None):
        """Run a command that must fail; returns the name of its error."""
        try:
            self(*words, timeout=timeout)
        except GuestError as error:
            return error.errno
        raise AssertionError(f"{self.name}: {' '.join(map(str, words))}: did not fail")

    def account(self, *words, **options):
        """Run a command whose values are KEY=NUMBER; returns them as a dictionary."""
        pairs = (value.split("=") for value in self(*words, **options).values)
        return {key: int(number, 0) for key, number in pairs}

    def kill(self):
        """End the process by SIGKILL and wait until it is gone."""
        self._machine.agent("kill", self.name)

    def objects(self):
        """Return the names of the process's objects."""
        return {line.split()[0] for line in self("objects").lines}

    def fd(self, name):
        """Return the file descriptor that an object has."""
        line, = (line for line in self("objects").lines if line.split()[0] == name)
        return int(re.search(r" fd=(-?\d+)", line)[1])

    def pid(self):
        """Return the number of the process, which has run a command."""
        processes = dict(line.split() for line in self._machine.agent("list").lines)
        return int(processes[self.name])

    def vfio(self, device, bdf, iommufd="I", ioas="A"):
        """Open a device's cdev and attach it to an IOAS, making what is not there yet."""
        self("vfio_open", device, bdf)
        self.vfio_attach(device, iommufd, ioas)

    def vfio_attach(self, device, iommufd="I", ioas="A"):
        """Attach a device file that is open to an IOAS, making what is not there yet."""
        have = self.objects()
        if iommufd not in have:
            self("iommufd", iommufd)
        if ioas not in have:
            self("ioas", iommufd, ioas)
        self("vfio_bind", device, iommufd)
        self("vfio_attach", device, ioas)

    def config(self, device, length=256):
        """Return a device's config space as its owner sees it through VFIO."""
        return bytes.fromhex(self("cfg_read", device, 0, length).text.replace("\n", ""))

    def dma_memory(self, name, size, iova, iommufd="I", ioas="A", page=0):
        """Make a memfd, of huge pages of a size if one is given; map it for an IOAS's devices."""
        if page:
            # A page that is missing is not mapped for devices when the pool has it in CMA.
            self("memfd_huge", name, size, page)
            self("mem_allocate", name, 0, size)
        else:
            self("memfd", name, size)
        self("ioas_map_file", iommufd, ioas, name, 0, size, iova)


# What a kernel says that is told to crash
CRASH = "sysrq: Trigger a crash|Kernel panic - not syncing: sysrq triggered crash|Call Trace"
# As small as it can be, so that it fits into the memory that is set aside: what is needed to
# be a machine of the lab, and nothing that kernels are loaded from.
CRASH_INITRD = "/tmp/crash.cpio"
MAKE_CRASH_INITRD = ("cd / && {{ printf '%s\\n' dev dev/console etc lib mnt proc run sys tmp;"
                     " find init bin sbin usr -maxdepth 2 ! -name example ! -name 'guest-*'"
                     " ! -name vfio-liveupdate; {modules}; }} |"
                     f" cpio -o -H newc >{CRASH_INITRD} 2>/dev/null")
# One processor, as crash kernels have.
CRASH_WORDS = "nr_cpus=1 reset_devices"

# In QEMU's "info registers"
PROCESSOR = re.compile(r"CPU#(\d+).*?RIP=(\w+) RFL=(\w+).*?HLT=(\d)", re.DOTALL)
INTERRUPTS = 0x200


class Machine:
    """A machine. Use it as a context: it boots on entry, and ends, checked, on exit.

    name names its folder build/lab/runs/NAME; kernel and next_kernel are flavours, the second
    is what kexec() goes to first; append goes to the kernel's command line; scalable has VT-d in
    scalable mode, first_stage with first-stage page tables only; device_iotlb lets it take part in
    ATS. marks has times of the host: of the order to jump ("freeze"), of the previous kernel's last
    word ("jump"), of the present kernel's first word ("kernel") and of its agent's ("ready"), and
    of QEMU's start ("start"). slow tells whether a kernel is one for debugging, or as distributions
    configure it, which takes several times as long. system is for a machine with a Debian root
    file system and systemd (lab/system.py), whose agent is a service; disk is the path of one that
    is its own, and bare leaves it to that disk which kernel there is, as in any machine. vm is for
    one with systemd that has QEMU, KVM and what a virtual machine is started from (lab/vm.py).
    patience is how many seconds anything may take.
    """

    def __init__(self, name, kernel="lab-a", next_kernel=None, *, topology=STANDARD, append="",
                 memory=None, smp=None, scalable=False, first_stage=False, device_iotlb=False,
                 modules=(), icount=False, system=False, disk=None, bare=False, vm=False,
                 patience=PATIENCE):
        """Describe a machine; nothing runs yet."""
        self.kernel = Kernel.named(kernel)
        self.next_kernel = Kernel.named(next_kernel or ("lab-b" if kernel == "lab-a" else kernel))
        self.folder = paths.RUNS / re.sub(r"[^\w.+-]+", "-", name).strip("-")
        self.system = system = system or vm
        self._vm = vm
        self._disk = disk
        self._bare = bare
        self.marks = {}
        self.wires = {}
        self.vhosts = {}
        self._kernels = tuple(dict.fromkeys((self.kernel, self.next_kernel)))
        needed = ["EXT4_FS"] * system + ["KVM_AMD"] * vm
        unfit = [kernel.flavour for kernel in self._kernels for option in needed
                 if not kernel.has(option)]
        if unfit:
            raise ImageError(f"{unfit[0]} is built without kernel/config/system.config")
        self._topology = topology
        debug = any(kernel.has("KASAN") for kernel in self._kernels)
        whole = any(kernel.has("NUMA") for kernel in self._kernels)
        self.slow = debug or whole
        drivers = {**NATIVE, **(DISK if system else {}), **(KVM if vm else {})}
        modules = (*dict.fromkeys(name for k in self._kernels for name in k.modular(drivers)),
                   *modules)
        self._memory = memory or ("4G" if whole else "2G" if debug or vm else "1G")
        gib = -(-int(self._memory[:-1]) // (1024 if self._memory.endswith("M") else 1))
        scratch = f"kho_scratch=64M,64M,{SCRATCH_KASAN + SCRATCH_KASAN_EACH_GIB * gib}M"
        self._append = " ".join([scratch] * debug + [append]
                                + [f"lab.modules={','.join(modules)}"] * bool(modules)
                                + [debian.words(disk)] * system)
        self._patience = patience * (SLOWNESS if self.slow or system else 1)
        self._smp = smp or (VM_SMP if vm else SMP)
        self._iommu = ",".join(["intel-iommu,intremap=on"]
                               + ["x-scalable-mode=on"] * (scalable or first_stage)
                               + ["x-flts=on"] * first_stage
                               + ["device-iotlb=on"] * device_iotlb)
        self._icount = icount
        self._loaded = None
        self._crash_kernel = None
        self._expected = []
        self._news = threading.Condition()
        self._boots = []
        self._text = {}
        self._replies = {}
        self._console_lines = []
        self._complaints = []
        self._trace = trace.Log(self.folder / "trace.log")
        self._sockets = None
        self._process = None
        self._serial = self._console = self._monitor = None
        self._console_log = None

    # --- life ---

    def boot(self):
        """Start the machine and wait until its agent answers."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._sockets = tempfile.mkdtemp(prefix="lab-")
        atexit.register(self._end)
        self._console_log = open(self.folder / "console.log", "w", encoding="utf-8",
                                 errors="replace", buffering=1)
        self._serial = Channel(f"{self._sockets}/agent", self._on_agent)
        self._monitor = Monitor(f"{self._sockets}/monitor")
        command = self.command(interactive=False)
        (self.folder / "qemu.cmd").write_text(_shell_words(command) + "\n")
        self.marks["start"] = time.time()
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=open(self.folder / "qemu.log", "w", encoding="utf-8"),
            preexec_fn=_die_with_parent, start_new_session=True)
        fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, CONSOLE_BUFFER)
        self._console = Lines(self._process.stdout, self._on_console)
        self._wait_boot(1)
        return self

    def close(self):
        """End the machine; raises MachineError when its kernel or a device of ours complained."""
        self._end()
        self._see_vhosts()
        splats = self.splats()
        if splats:
            raise MachineError(self._say("the kernel complained: " + splats[0]))

    def _end(self):
        """End QEMU and close all that is open."""
        atexit.unregister(self._end)
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(QUIT_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for part in (self._serial, self._monitor, *self.wires.values(), *self.vhosts.values()):
            if part:
                part.close()
        if self._console:
            self._console.join(QUIT_PATIENCE)
        if self._console_log:
            self._console_log.close()
        if self._sockets:
            shutil.rmtree(self._sockets, ignore_errors=True)
        for image in self.folder.glob("*.img"):
            image.unlink()

    def __enter__(self):
        """Boot."""
        try:
            return self.boot()
        except BaseException:
            self._end()
            raise

    def __exit__(self, kind, error, where):
        """End; a failure that is under way goes first."""
        if kind:
            self._end()
        else:
            self.close()

    # --- what it is made of ---

    def command(self, interactive):
        """Return QEMU's command line; interactive has the console on the terminal."""
        # One host thread for all CPUs: with one for each, QEMU 10.0 dies in about one start out
        # of fifty (an assertion in iotlb_to_section) when a CPU sizes a BAR while others run.
        accel = "tcg,thread=single"
        run = Run(self.folder, self._wire, self._vhost)
        devices = arguments(self._topology, run)
        program, iommu = qemu.INSTALLED, self._iommu
        if run.newer:
            program, iommu = map(str, qemu.newer()), qemu.options(iommu)
        command = [
            *program, "-nodefaults", "-no-user-config", "-no-reboot",
            "-display", "none",
            "-M", "q35,kernel-irqchip=split,sata=off,smbus=off", "-accel", accel, "-cpu", CPU,
            "-smp", str(self._smp), "-m", self._memory, "-device", iommu,
            *devices,
        ]
        if run.shared:
            command += ["-object", f"memory-backend-memfd,id=ram,size={self._memory},share=on",
                        "-machine", "memory-backend=ram"]
        if not self._bare:
            more = inner_files(self.kernel, NATIVE) if self._vm else None
            command += ["-kernel", str(self.kernel.image),
                        "-initrd", str(initramfs(self._kernels, more)),
                        "-append", self.command_line(SHELL if interactive else "")]
        if self.system:
            command += debian.arguments(self._disk, self._bare, self._vm)
        if self._icount:
            command += ["-icount", "shift=1,sleep=off"]
        if interactive:
            return command + ["-serial", "mon:stdio"]
        # The console is a pipe: a socket takes few single bytes before it is full.
        command += ["-chardev", "file,id=console,path=/dev/stdout"]
        for name in ("agent", "monitor"):
            command += ["-chardev", f"socket,id={name},path={self._sockets}/{name}"]
        command += ["-serial", "chardev:console", "-serial", "chardev:agent",
                    "-mon", "chardev=monitor,mode=control",
                    "-msg", "timestamp=on", "-D", str(self.folder / "trace.log")]
        for event in trace.EVENTS:
            command += ["-trace", event]
        return command

    def command_line(self, extra=""):
        """Return the kernel's command line."""
        return " ".join(f"{COMMAND_LINE} {self._append} {extra}".split())

    def _wire(self, name):
        """Make the cable of a network controller."""
        self.wires[name] = Wire(self._socket_folder(), name)
        return self.wires[name]

    def _vhost(self, name, **options):
        """Make a block device that caches translations."""
        self.vhosts[name] = Blk(name, f"{self._socket_folder()}/{name}", **options)
        return self.vhosts[name]

    def _see_vhosts(self):
        """Raise MachineError when something is wrong with a device that is not QEMU's."""
        for device in self.vhosts.values():
            if device.failure:
                raise MachineError(self._say(f"{device.device} has failed: {device.failure}"))

    def _socket_folder(self):
        """Return the folder for sockets."""
        if self._sockets is None:
            self._sockets = tempfile.mkdtemp(prefix="lab-")
        return self._sockets

    # --- acting inside ---

    def worker(self, name):
        """Return the worker of a name; its process starts with its first command."""
        return Worker(self, name)

    def sh(self, command, check=True, timeout=None):
        """Run a shell command in the machine and return its output."""
        reply = self.worker("sh")("sh", command, timeout=timeout)
        if check and int(reply):
            raise GuestError(command, f"exit code {int(reply)}", reply.text)
        return reply.text

    def agent(self, *words):
        """Give the agent a command of its own: kill NAME, list."""
        self.request("@", " ".join(words))
        return self.reply("@")

    def request(self, name, text):
        """Send a worker a command."""
        if "\n" in text:
            raise ValueError("a command is one line")
        self._alive()
        self._serial.send(f"{name} {text}")

    def reply(self, name, timeout=None):
        """Wait for a worker's reply."""
        self._wait(lambda: name in self._replies, timeout or self._patience,
                   f"no reply from worker {name}")
        with self._news:
            good, rest, lines = self._replies.pop(name)
        if good:
            return Reply(lines, rest.split())
        errno, _, message = rest.partition(" ")
        raise GuestError(name, errno, message)

    # --- live update ---

    def kexec_load(self, append="", kernel=None, image=None):
        """Load the next kernel (the one that the machine does not run, unless named).

        image is the path of a file in the machine to load it from, instead of its own.
        """
        target = self.next_kernel
        if kernel:
            target = next(k for k in self._kernels if k.flavour == kernel)
        self.worker("kexec")("kexec_load", image or target.guest_image, "/sys/firmware/initrd",
                             self.command_line(append))
        self._loaded = target

    def kexec_go(self, timeout=None, look=None, command=None):
        """Jump and wait for the next kernel; raises GuestError when the jump is refused.

        Where systemd runs it is asked to. It stops all services first; when the kernel refuses
        after that it reboots, which ends the machine (MachineError).

        look is called between the kernels, with the machine stopped: the next one has said its
        first word, and has yet to look for devices. command is what the worker is told.
        """
        boots = len(self._boots)
        self.marks["freeze"] = time.time()
        command = command or ("sh systemctl kexec" if self.system else "kexec_go")
        self.worker("kexec").start(command)
        if look:
            self._wait_kernel(lambda: self.marks.get("kernel", 0) > self.marks["freeze"]
                              or self._refused(), timeout, "the next kernel does not speak")
            if not self._refused():
                with self.stopped():
                    look()
        self._wait_kernel(lambda: len(self._boots) > boots or self._refused(), timeout,
                          "the next kernel does not come up")
        if len(self._boots) == boots:
            raise GuestError(command, "", self.reply("kexec").text)
        if self._loaded is not self.kernel:
            self.kernel, self.next_kernel = self._loaded, self.kernel
        self._wait_boot(boots + 1)

    def kexec_by(self, command, timeout=None):
        """Jump by a shell command that loads the next kernel and jumps."""
        self._loaded = self.next_kernel
        self.kexec_go(timeout, command=f"sh {command}")

    # --- a crash ---

    def crash_load(self, append="", kernel=None):
        """Load the kernel that is to save a dump (the machine's own, unless named)."""
        target = next(k for k in self._kernels if k.flavour == (kernel or self.kernel.flavour))
        modules = (f"echo lib/modules; find lib/modules/{target.release}"
                   if target.modular(NATIVE) else ":")
        self.sh(f"[ -e {CRASH_INITRD} ] || {{ {MAKE_CRASH_INITRD.format(modules=modules)}; }}")
        words = " ".join(word for word in self.command_line(append).split()
                         if not word.startswith(("crashkernel=", "kho_scratch=")))
        self.worker("kexec")("kexec_load_crash", target.guest_image, CRASH_INITRD,
                             f"{words} {CRASH_WORDS}")
        self._crash_kernel = target

    def crash(self, timeout=None, early=None):
        """Let the kernel crash, and wait until the one that saves the dump has come up.

        early is called when that one has said its first word.
        """
        boots = len(self._boots)
        self.expect_splat(CRASH)
        self.mark("crash")
        self.worker("crash").start("sh echo c >/proc/sysrq-trigger")
        if early:
            self._wait(lambda: self.marks.get("kernel", 0) > self.marks["crash"],
                       timeout or self._patience, "the crash kernel does not speak")
            early()
        self._wait(lambda: len(self._boots) > boots, timeout or self._patience,
                   "the crash kernel does not come up")
        self.kernel = self._crash_kernel
        self._wait_boot(boots + 1)

    def _refused(self):
        """Tell whether the order to jump was refused; systemctl succeeds before the jump."""
        good, rest, _ = self._replies.get("kexec", (True, "0", None))
        return "kexec" in self._replies and not (self.system and good and rest == "0")

    def settled(self):
        """Wait until systemd has started everything; returns what it calls that, like "running"."""
        return self.sh("systemctl is-system-running --wait", check=False)

    def kexec(self, append="", timeout=None, look=None):
        """Load the next kernel and jump into it."""
        self.kexec_load(append)
        self.kexec_go(timeout, look)

    # --- devices ---

    def bdf(self, name):
        """Return the PCI address of a device of the topology, as it is now."""
        device, number = function(name)
        found = _find_pci(self._monitor.ask("query-pci"), device)
        if found and number is not None:
            link = f"/sys/bus/pci/devices/{found}/virtfn{number}"
            found = self.sh(f"readlink {link}", check=False).rpartition("/")[2]
        if not found:
            raise KeyError(name)
        return found

    def config(self, bdf):
        """Return a device's config space as the machine's kernel reads it."""
        return bytes.fromhex(self.sh(f"xxd -p /sys/bus/pci/devices/{bdf}/config").replace("\n", ""))

    def symbol(self, name):
        """Return the address of a function or variable, wherever the kernel has put itself."""
        there = int(self.sh("grep -m1 ' _stext$' /proc/kallsyms").split()[0], 16)
        return self.kernel.symbol(name) - self.kernel.symbol("_stext") + there

    def driver(self, bdf):
        """Return the name of the driver that has a device, or None."""
        link = self.sh(f"readlink /sys/bus/pci/devices/{bdf}/driver", check=False)
        return link.rpartition("/")[2] or None

    def bind(self, bdf, driver=""):
        """Give a device to a driver; without one, to whichever takes it by itself."""
        folder = f"/sys/bus/pci/devices/{bdf}"
        self.sh(f"echo {driver} >{folder}/driver_override;"
                f"[ ! -e {folder}/driver ] || echo {bdf} >{folder}/driver/unbind;"
                f"echo {bdf} >/sys/bus/pci/drivers_probe")
        bound = self.driver(bdf)
        if driver and bound != driver:
            raise MachineError(self._say(f"{bdf} went to {bound}, not {driver}"))

    def bind_vfio(self, bdf):
        """Give a device to vfio-pci."""
        self.sh("[ -d /sys/bus/pci/drivers/vfio-pci ] || modprobe vfio-pci;"
                "[ -d /sys/module/vfio_iommu_type1 ] || modprobe -q vfio_iommu_type1", check=False)
        self.bind(bdf, "vfio-pci")

    def vfs(self, name, count=0):
        """Let a device have so many virtual functions, if not more; returns how many it has.

        It is vfio-pci's from then on, and they are, too.
        """
        folder = f"/sys/bus/pci/devices/{self.bdf(name)}"
        have = int(self.sh(f"cat {folder}/sriov_numvfs 2>/dev/null || echo 0"))
        if have >= count:
            return have
        self.bind_vfio(self.bdf(name))
        if self.sh(f"cat {folder}/class").startswith(pci.CLASS_NVME):
            self.share_drive(self.bdf(name))
        self.sh(f"echo 1 >{ENABLE_SRIOV}; echo {count} >{folder}/sriov_numvfs")
        return count

    def share_drive(self, bdf):
        """Have a drive leave queues and interrupts to its virtual functions.

        It does after a reset: vfio-pci's, when its user is gone.
        """
        worker = self.worker("vfs")
        worker.vfio("D", bdf)
        worker.dma_memory("M", SHARE_MEMORY, SHARE_IOVA)
        worker("nvme_start", "N", "D", "M", SHARE_IOVA)
        worker("nvme_share", "N")
        worker.kill()

    def trace_more(self, *names):
        """Have the trace show events from now on that come too often for all machines."""
        for name in names:
            self._monitor.ask("trace-event-set-state", name=name, enable=True)

    def throttle(self, name, iops, writes=False):
        """Let a drive read no more than that many times a second; 0: as often as it can.

        writes: they count, too, as they always do for a Vhost.
        """
        if name in self.vhosts:
            self.vhosts[name].rate = iops
            return
        self._throttle(name, **{"iops" if writes else "iops_rd": iops})

    def throttle_writes(self, name, rate):
        """Let a drive write no more than that many bytes a second; with 1 it answers no more."""
        self._throttle(name, bps_wr=rate)

    def _throttle(self, name, **limit):
        """Set one of a drive's limits, and take the others away."""
        limits = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
        self._monitor.ask("block_set_io_throttle", device=f"drive-{name}", **{**limits, **limit})

    # --- looking at it ---

    @contextlib.contextmanager
    def stopped(self):
        """Let the machine's processors stand still."""
        self._monitor.ask("stop")
        try:
            yield
        finally:
            self._monitor.ask("cont")

    @contextlib.contextmanager
    def debugger(self):
        """Stop the machine for a debugger, which may let it go on."""
        path = f"{self._sockets}/debugger"
        self._human(f"gdbserver unix:{path},server=on,wait=off")
        debugger = Debugger(path)
        try:
            yield debugger
        finally:
            debugger.close()
            self._human("gdbserver none")

    def memory(self, address, size):
        """Return some bytes of the machine's memory, by their physical address."""
        path = self.folder / "memory"
        self._monitor.ask("pmemsave", val=address, size=size, filename=str(path))
        data = path.read_bytes()
        path.unlink()
        return data

    def poke(self, address, data):
        """Write to the machine's memory, by physical address; it has to be stopped()."""
        with self.debugger() as debugger:
            debugger.write(address, data)

    def trace(self, name=None, bdf=None, since=None, until=None):
        """Return events of the trace: of a name, of an address, between two marks (or times)."""
        return trace.select(self._trace.events(), name, bdf,
                            self._time(since, 0.0), self._time(until, float("inf")))

    def forget(self, until):
        """Let go what the console and the trace said before a mark (or time).

        A machine that goes through a thousand updates would have more and more to look through.
        The kernels' complaints are kept, and the files have all of it.
        """
        moment = self._time(until, 0.0)
        self._trace.forget(moment)
        for device in self.vhosts.values():
            device.forget(moment)
        with self._news:
            del self._console_lines[:self._first_line(moment)]

    def config_writes(self, bdf, offset, since=None, until=None):
        """Return the writes to one register of a device's config space, from the trace."""
        return [event for event in self.trace("pci_cfg_write", bdf, since, until)
                if event.offset == offset]

    def command_writes(self, bdf, since=None, until=None):
        """Return the values written to a device's command register, from the trace."""
        return [event.value for event in self.config_writes(bdf, pci.COMMAND, since, until)]

    def resets(self, bdf, config, since=None, until=None):
        """Return the function level resets of a device, whose config space is given."""
        control = pci.capability(config, pci.CAP_EXPRESS) + pci.EXPRESS_DEVCTL
        return [event for event in self.config_writes(bdf, control, since, until)
                if event.value & pci.EXPRESS_DEVCTL_FLR]

    def bus_resets(self, bridge, since=None, until=None):
        """Return the resets of the bus below a bridge, which reset all that is on it."""
        return [event for event in self.config_writes(bridge, pci.BRIDGE_CONTROL, since, until)
                if event.value & pci.BRIDGE_CONTROL_RESET]

    def mark(self, name):
        """Remember the present time under a name."""
        self.marks[name] = time.time()

    def console_text(self, since=None):
        """Return what the kernel said on the console, since a mark (or time)."""
        with self._news:
            lines = self._console_lines[self._first_line(self._time(since, 0.0)):]
        return "\n".join(text for _, text in lines)

    def _first_line(self, moment):
        """Return the index of the console's first line since a moment."""
        return bisect.bisect_left(self._console_lines, (moment,))

    def wait_console(self, pattern, since=None, timeout=None):
        """Wait until a line on the console matches; returns the match."""
        found = []

        def look():
            found[:] = filter(None, [re.search(pattern, self.console_text(since))])
            return bool(found)

        self._wait(look, timeout or self._patience, f"the console does not say {pattern}")
        return found[0]

    def expect_splat(self, pattern):
        """Let the kernel's complaints that match a pattern pass."""
        self._expected.append(re.compile(pattern))

    def splats(self):
        """Return the kernel's complaints that nobody expected."""
        with self._news:
            return [text for text in self._complaints
                    if not any(e.search(text) for e in self._expected)]

    def kmemleak(self):
        """Look for leaked memory (debug kernels); returns the report, empty when there is none."""
        return self.sh("cd /sys/kernel/debug && [ -e kmemleak ] || exit 0; echo scan >kmemleak;"
                       "sleep 1; echo scan >kmemleak; cat kmemleak", timeout=10 * self._patience)

    # --- inner works ---

    def _time(self, mark, default):
        """Return the time of a mark, or of a number, which is one."""
        if mark is None:
            return default
        return self.marks[mark] if isinstance(mark, str) else mark

    def _on_console(self, line):
        """Keep a line of the console."""
        now = time.time()
        if "] Linux version " in line:
            self.marks["kernel"] = now
        if "kexec_core: Starting new kernel" in line:
            self.marks["jump"] = now
        self._console_log.write(f"[{now - self.marks.get('start', now):8.3f}] {line}\n")
        with self._news:
            self._console_lines.append((now, line))
            self._complaints += [line] if SPLAT.search(line) else []
            self._news.notify_all()

    def _on_agent(self, line):
        """Take in a line from the agent."""
        with self._news:
            if line.startswith("! ready "):
                self._boots.append((time.time(), line.split()[2]))
                self._text.clear()
                self._replies.clear()
            match = re.match(r"([^\s:=!]+)(?:: (.*)|= (ok|err) ?(.*))", line)
            if match and match[3]:
                self._replies[match[1]] = (match[3] == "ok", match[4],
                                           self._text.pop(match[1], []))
            elif match:
                self._text.setdefault(match[1], []).append(match[2])
            self._news.notify_all()

    def _wait_boot(self, count):
        """Wait until the machine has come up count times."""
        self._wait_kernel(lambda: len(self._boots) >= count, None, "the machine does not boot")
        self.marks["ready"], release = self._boots[-1]
        if release != self.kernel.release:
            raise MachineError(self._say(f"{release} came up, not {self.kernel.release}"))

    def _wait(self, condition, timeout, complaint):
        """Wait until a condition holds; raises MachineError when it does not in time."""
        end = time.monotonic() + timeout
        with self._news:
            while not condition():
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._alive()
                self._news.wait(min(left, 0.2))
            else:
                return
        where = self._processors()
        raise MachineError(self._say(f"{complaint} within {timeout:g} s; {where}"))

    def _wait_kernel(self, condition, timeout, complaint):
        """Wait for something that a kernel does in its boot; when it does not, find out why.

        On a busy host a kernel may be slow and not know it: until it has a clock ("Switched to
        clocksource") it counts ticks, and most of them are lost. A debug kernel that got 3 % of a
        processor came to its last word on MTRRs after 228 s and to its clock 322 s later, of which
        it had counted 12; it has no reason to complain of a stall. One that still prints gets
        more time.

        After that word on MTRRs a kernel prints by a thread of its own: one that stands still has
        not printed what it said last. Where its processors are is looked at more than once, with
        their timers. Then an NMI makes it panic, and a panic prints everything.
        """
        for left in reversed(range(ROUNDS)):
            began = time.time()
            try:
                return self._wait(condition, timeout or self._patience, complaint)
            except MachineError as error:
                if not self._process or self._process.poll() is not None:
                    raise
                if left and self.console_text(began) and not self.splats():
                    continue
                self._look_at_processors()
                self._human("nmi")
                with contextlib.suppress(MachineError):
                    self._wait(lambda: False, NMI_PATIENCE, complaint)
                raise MachineError(self._say(str(error).partition("\n")[0])) from None

    def _look_at_processors(self):
        """Write down what the processors do, a few times."""
        with open(self.folder / "processors.log", "w", encoding="utf-8") as file:
            for _ in range(LOOKS):
                file.write(f"=== {time.time() - self.marks['start']:.3f}: {self._processors()}\n")
                for command in ("info status", "info registers -a", "info irq",
                                *(f"info lapic {number}" for number in range(self._smp))):
                    file.write(f"--- {command}\n{self._human(command)}\n")
                time.sleep(1)

    def _human(self, command):
        """Give QEMU's monitor a command for people; returns what it says."""
        return self._monitor.ask("human-monitor-command", **{"command-line": command})

    def _processors(self):
        """Return where the processors are, in the kernel that spoke last."""
        kernel = self.kernel
        if self._loaded and self.marks.get("kernel", 0) > self.marks.get("ready", 0):
            kernel = self._loaded
        said = self._human("info registers -a")
        return ", ".join(f"CPU {number} {'halted ' if halted == '1' else ''}"
                         f"at {kernel.place(int(place, 16))}"
                         f"{'' if int(flags, 16) & INTERRUPTS else ', interrupts off'}"
                         for number, place, flags, halted in PROCESSOR.findall(said))

    def _alive(self):
        """Raise MachineError when QEMU has ended, or a device that is not QEMU's."""
        if not self._process:
            raise MachineError("QEMU was not started")
        self._see_vhosts()
        status = self._process.poll()
        if status is not None:
            why = ("the machine was reset or turned off" if not status else
                   f"exit code {status}" if status > 0 else signal.strsignal(-status))
            log = (self.folder / "qemu.log").read_text().strip()
            raise MachineError(self._say(f"QEMU has ended: {why} {log}".strip()))

    def _say(self, what):
        """Return an error's text: what, the telling part of the console, where to look."""
        lines = self.console_text().split("\n")
        splats = [text for text in self.splats() if text in lines]
        first = lines.index(splats[0]) if splats else max(0, len(lines) - TAIL)
        tail = "\n".join("  " + text for text in lines[first:first + TAIL])
        return (f"{what}\nThe console, {'from there' if splats else 'at its end'}:\n{tail}\n"
                f"See {paths.short(self.folder)}/: console.log trace.log qemu.cmd qemu.log")


class Monitor(Channel):
    """A connection to QEMU's monitor (QMP)."""

    def __init__(self, path):
        """Listen at a path."""
        self._answers = 0
        self._answer = None
        self._news = threading.Condition()
        super().__init__(path, self._on_line)

    def _on_line(self, line):
        """Take in a message; events are of no interest."""
        message = json.loads(line)
        with self._news:
            if "QMP" in message:
                self.send('{"execute": "qmp_capabilities"}')
            if "return" in message or "error" in message:
                self._answers += 1
                self._answer = message
            self._news.notify_all()

    def ask(self, command, **args):
        """Run a command and return its answer."""
        with self._news:
            # The answer to qmp_capabilities is the first.
            if not self._news.wait_for(lambda: self._answers, PATIENCE):
                raise MachineError("QEMU's monitor does not answer")
            count = self._answers
            self.send(json.dumps({"execute": command, "arguments": args}))
            if not self._news.wait_for(lambda: self._answers > count, PATIENCE):
                raise MachineError(f"QEMU's monitor does not answer {command}")
            answer = self._answer
        if "error" in answer:
            raise MachineError(f"{command}: {answer['error']['desc']}")
        return answer["return"]


def _find_pci(buses, name):
    """Find a device by its QEMU name in an answer to query-pci; return its address."""
    for bus in buses:
        for device in bus["devices"]:
            if device["qdev_id"] == name:
                return f"0000:{device['bus']:02x}:{device['slot']:02x}.{device['function']}"
            below = device.get("pci_bridge", {})
            found = _find_pci([{"devices": below.get("devices", [])}], name)
            if found:
                return found
    return None


def _die_with_parent():
    """In QEMU's process before it starts: end when the test run ends, however it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _shell_words(command):
    """Return a command as a line that a shell would take."""
    return " ".join(word if re.fullmatch(r"[\w@%+=:,./-]+", word) else f"'{word}'"
                    for word in command)
