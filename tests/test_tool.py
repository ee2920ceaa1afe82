# SPDX-License-Identifier: GPL-2.0-only
"""The tool vfio-liveupdate: what it says and does, on made-up systems and in machines."""

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import termios
from dataclasses import dataclass

import jsonschema
import pytest

import bzimage
from lab import Disk, Igb, Port, SMALL, image, paths
from lab.image import Kernel
from lab.running import Running
from test_preserve import TwoFunctions
from update import (PAIR, Ats, Owner, bridges, no_reset, see_dma, see_no_faults, see_nothing_lost,
                    see_undisturbed, state)

OK, FAILED, USAGE, NEEDS_ROOT, REFUSED = range(5)
HUGE = "hugetlb-memfd-v1"
COMMANDS = ("list", "check", "status", "hold", "release", "kexec")
SCHEMA = json.loads((paths.ROOT / "tool" / "schema.json").read_text())
INITRD = "/sys/firmware/initrd"
USER = "somebody"
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
# Seconds that the tool gives a disk for its answer, see tool/sync.c, and what it has to write
PATIENCE = 60
REQUEST, REQUESTS = 4096, 160
# Of the library, where it keeps what a set is made of
MANIFEST_TOKEN = 0x4d414e4946455354


@dataclass(frozen=True)
class Said:
    """What the tool said, and how it ended."""

    code: int
    out: str
    err: str

    def json(self, command):
        """Return the JSON that a command printed, after a look whether it is as promised."""
        said = json.loads(self.out)
        jsonschema.validate(said, {"$ref": f"#/definitions/{command}", **SCHEMA})
        return said


# --- on the host: the tool as it is built, with sanitizers, and under valgrind -----------------

def sanitized():
    """Build the tool with sanitizers and return its path."""
    out = image.meson("tool", paths.BUILD / "tool-sanitized", "-Db_lundef=false",
                      "-Db_sanitize=address,undefined")
    return [out / image.TOOL]


def checked():
    """Return the tool under valgrind."""
    return ["valgrind", "--quiet", "--leak-check=full", "--error-exitcode=99",
            image.tool_program()]


@pytest.fixture(scope="module", ids=lambda make: make.__name__,
                params=[sanitized, pytest.param(checked, marks=pytest.mark.thorough)])
def tool(request):
    """Run the tool with some arguments; it must not be found to do anything wrong."""
    program = request.param()
    environment = {**os.environ, "ASAN_OPTIONS": "exitcode=97",
                   "UBSAN_OPTIONS": "halt_on_error=1:exitcode=98"}

    def run(*arguments, user=None):
        done = subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=120,
                              env=environment, user=user, check=False)
        assert done.returncode <= REFUSED, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    return run


class System:
    """A system made of files, for --sysroot."""

    def __init__(self, root):
        """Make one that has no devices, and live update on."""
        self.root = root
        self.write("sys/bus/pci/devices/.keep", "")
        self.write("sys/kernel/kexec_loaded", "0\n")
        self.write("sys/class/iommu/dmar0/intel-iommu/ecap", "f00f5a\n")
        self.write("sys/class/misc/iommu/dev", "10:1\n")
        self.write("sys/bus/pci/drivers/vfio-pci/bind", "")
        self.write("sys/bus/pci/drivers/vfio-pci/unbind", "")
        self.write("proc/sys/kernel/osrelease", "7.3.4\n")
        self.write("proc/cmdline", "liveupdate=on kho=on\n")
        self.write("dev/liveupdate", "")

    def write(self, path, text):
        """Write a file."""
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def configure(self, *options):
        """Make a kernel configuration."""
        self.write("boot/config-7.3.4", "".join(f"CONFIG_{option}\n" for option in options))

    def device(self, bdf, words=None, driver="vfio-pci", liveupdate="none", class_code=0x010802):
        """Add a PCI device; words are the kernel's, for idle, running mode and driver."""
        folder = f"sys/bus/pci/devices/{bdf}"
        self.write(f"{folder}/vendor", "0x1b36\n")
        self.write(f"{folder}/device", "0x0010\n")
        self.write(f"{folder}/class", f"{class_code:#08x}\n")
        self.write(f"{folder}/liveupdate", f"{liveupdate}\n")
        for name, word in zip(("idle", "running", "driver"), words or ()):
            self.write(f"{folder}/liveupdate_{name}", f"{word}\n")
        if driver:
            (self.root / folder / "driver").symlink_to(f"../../drivers/{driver}")
        (self.root / folder / "iommu_group").symlink_to("../../../../kernel/iommu_groups/7")

    def functions(self, pf, *vfs, hold=0):
        """Make one device the physical function of others."""
        folder = self.root / f"sys/bus/pci/devices/{pf}"
        for name, text in (("sriov_totalvfs", 8), ("sriov_numvfs", len(vfs)),
                           ("liveupdate_hold", hold), ("liveupdate_release", "")):
            (folder / name).write_text(f"{text}\n")
        for vf in vfs:
            (folder.parent / vf / "physfn").symlink_to(f"../{pf}")

    def value(self, bdf, name):
        """Return what is in an attribute of a device."""
        return (self.root / f"sys/bus/pci/devices/{bdf}/{name}").read_text().strip()

    def opened(self, pid, name, link, *devices):
        """Make a process that has a file open, which is that of devices."""
        self.write(f"proc/{pid}/comm", f"{name}\n")
        self.write(f"proc/{pid}/fdinfo/7", "pos:\t0\n" + "".join(
            f"vfio-device-syspath: /sys/devices/pci0000:00/0000:00:10.0/{bdf}\n"
            for bdf in devices))
        (self.root / f"proc/{pid}/fd").mkdir()
        (self.root / f"proc/{pid}/fd/7").symlink_to(link)

    def log(self, *lines):
        """Make the kernel's log, with somebody else's lines in it."""
        records = [f"{6 if number % 2 else 3},{number},{number}000,-;{line}\n SUBSYSTEM=x;KHO: no\n"
                   for number, line in enumerate(lines, 100)]
        self.write("dev/kmsg", "".join(("12,1,1,-;KHO: Failed to reserve its scratch buffer\n",
                                        *records, "no record")))

    def sessions(self, text):
        """Make the list of sessions."""
        self.write("sys/kernel/debug/liveupdate/sessions", text)


@pytest.fixture
def system(tmp_path):
    """A system made of files."""
    tmp_path.chmod(0o755)
    return System(tmp_path)


GOOD = ("yes", "yes", "yes")


def test_help_and_version(tool):
    """Each command has help on stdout, and there is a version."""
    assert "Usage:" in tool("--help").out
    assert tool("--version").out.startswith("vfio-liveupdate ")
    for command in COMMANDS:
        said = tool(command, "--help")
        assert said.code == OK and f"vfio-liveupdate {command}" in said.out and not said.err
        assert f"  {command} " in tool("-h").out
        assert tool(command, "-V").out == tool("-V").out


@pytest.mark.parametrize("arguments", [
    (), ("fly",), ("list", "--bad"), ("list", "-x"), ("list", "--sysroot"),
    ("check", "-n"), ("status", "more"), ("kexec",), ("kexec", "--kernel"), ("kexec", "-k", "/k"),
    ("kexec", "-k", "/k", "-r", "more"), ("kexec", "-k", "/k", "-r", "--json"),
    ("kexec", "-k", "/k", "-r", "--sysroot", "/"), ("hold",), ("hold", "--yes", "01:00.0"),
    ("release",), ("release", "--undo", "01:00.0"), ("release", "01:00.0", "--json"),
], ids=" ".join)
def test_wrong_usage(tool, arguments):
    """What the tool does not understand is code 2, and a hint on stderr."""
    said = tool(*arguments)
    assert said.code == USAGE and "--help" in said.err and not said.out


@pytest.mark.parametrize("arguments, word", [
    (("list", "-xa"), "-x"), (("list", "-ax"), "-x"), (("check", "--bad"), "--bad"),
    (("status", "--json=x"), "--json=x"), (("list", "-as"), "-as"),
], ids=str)
def test_wrong_option(tool, arguments, word):
    """The message names the option, also where several are one word."""
    said = tool(*arguments)
    assert said.code == USAGE and word in said.err.splitlines()[0].split()


@pytest.mark.parametrize("arguments", [("-h",), ("list", "-h"), ("list", "-V"), ("list", "-a")],
                         ids=" ".join)
def test_output_is_lost(arguments):
    """What cannot be written is not passed over, whatever it is."""
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([image.tool_program(), *arguments], stdout=full, text=True,
                              stderr=subprocess.PIPE, check=False)
    assert done.returncode == FAILED and "No space left" in done.stderr


def test_own_system(tool):
    """Whatever the host is, the tool can look at it."""
    assert tool("list", "--all").code == OK
    tool("list", "--all", "--json").json("list")
    said = tool("check", "--json")
    assert said.json("check")["ready"] == (said.code == OK)


def test_list(tool, system):
    """What the kernel says of devices is what the tool says."""
    system.device("0000:01:00.0", GOOD)
    system.device("0000:02:00.0", ("yes", "pri", "yes"))
    system.device("0000:03:00.0", ("shared-iommu-group", "shared-iommu-group", "yes"))
    system.device("0001:04:00.1", ("yes", "yes", "other-driver"), driver="nvme", liveupdate="none")
    system.device("0000:05:00.0", driver=None)
    system.device("0000:06:00.0", None, "pcieport", "outgoing bridge", 0x060400)
    said = tool("list", "--json", "--sysroot", system.root)
    devices = {device.pop("device"): device for device in said.json("list")["devices"]}
    assert list(devices) == ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:05:00.0",
                             "0001:04:00.1"]
    assert devices["0000:01:00.0"] == {
        "id": "1b36:0010", "name": "QEMU NVM Express Controller", "driver": "vfio-pci",
        "iommu_group": 7, "physfn": None, "vfs": 0, "hold": False, "outgoing": None,
        "incoming": None, "preservable": True, "idle": True, "running": True, "cause": None,
        "reason": None}
    wanted = {
        "0000:02:00.0": (True, True, False, "pri",
                         "page requests of it, or of its physical function, are handled"),
        "0000:03:00.0": (False, False, False, "shared-iommu-group", "not alone in its IOMMU group"),
        "0000:05:00.0": (False, False, False, None, "this kernel preserves no PCI devices"),
        "0001:04:00.1": (False, True, True, "other-driver",
                         "its driver takes no part: bind it to vfio-pci"),
    }
    for bdf, expected in wanted.items():
        keys = ("preservable", "idle", "running", "cause", "reason")
        assert tuple(devices[bdf][key] for key in keys) == expected, bdf
    some = tool("list", "-J", "06:00.0", "0001:04:00.1", "-s", system.root).json("list")["devices"]
    assert [device["device"] for device in some] == ["0000:06:00.0", "0001:04:00.1"]
    said = tool("list", "02:00.0", "09:00.0", "--sysroot", system.root)
    assert said.code == FAILED and "no PCI device 09:00.0" in said.err and not said.out
    every = tool("list", "-a", "-J", "-s", system.root).json("list")["devices"]
    bridge = next(device for device in every if device["device"] == "0000:06:00.0")
    assert bridge["outgoing"] == "bridge" and "bridge" in bridge["reason"]


def test_odd_answers(tool, system):
    """An attribute that is not as it should be makes no device preservable; new words are shown."""
    words = ("", "\n\n", "yes please", "YES", "too-cold", "x" * 400)
    for number, word in enumerate(words):
        system.device(f"0000:{number:02x}:00.0", (word, word, "yes"))
    system.device("0000:10:00.0", ("yes",))
    said = tool("list", "--json", "--sysroot", system.root).json("list")["devices"]
    assert not any(device["preservable"] for device in said)
    assert [(device["cause"], device["reason"]) for device in said] == [
        (None, "the kernel does not say"), (None, "the kernel does not say"),
        ("yes please", "yes please"), ("YES", "YES"), ("too-cold", "too-cold"),
        ("x" * 31, "x" * 31), (None, "this kernel preserves no PCI devices")]


def kernels_words():
    """Return the words that the kernel has for what stands against a device, as documented."""
    text = (paths.ROOT / "kernel/src/Documentation/ABI/testing"
            / "sysfs-bus-pci-liveupdate").read_text().partition("liveupdate_idle")[2]
    lists = re.findall(r"\t+=+  =+\n(.*?)\t+=+  =+\n", text, re.DOTALL)
    words = {word for part in lists for line in part.splitlines()
             for word in re.split(", ", line.strip().partition("  ")[0])
             if re.match(r"\t+[a-z]", line) and not line.startswith("\t" * 4)}
    assert len(words) > 10
    return words


def test_every_word_has_a_text(tool, system):
    """What each of the kernel's words means is said in more than that word."""
    words = sorted(kernels_words())
    for number, word in enumerate(words):
        system.device(f"0000:{number:02x}:00.0", (word, word, word))
    said = tool("list", "--json", "--sysroot", system.root).json("list")["devices"]
    assert [device["cause"] for device in said] == words
    assert not [device for device in said if " " not in device["reason"]]


def test_hostile_answers(tool, system):
    """Files may hold anything: no command crashes or hangs, and JSON is JSON."""
    texts = (b"yes\nyes\n\xc3\xa4\xc0\x80\xe2\x82", b"\xff\xfe\x1b[31m\n", b'"\\\t\r\n\0yes')
    for number, text in enumerate(texts):
        bdf = f"0000:{number:02x}:00.0"
        system.device(bdf, GOOD, driver=None, liveupdate="outgoing idle")
        folder = system.root / "sys/bus/pci/devices" / bdf
        (folder / "liveupdate_idle").write_bytes(text)
        (folder / "vendor").write_text("0x123456789\n")
        (folder / "iommu_group").unlink()
        os.symlink(b"../" + (b"\xed\xa0\x80", b"007", b"12 34")[number],
                   bytes(folder / "iommu_group"))
        os.symlink(b"../\xffx\xc3\xa4", bytes(folder / "driver"))
    for path in ("proc/cmdline", "boot/config-7.3.4", "sys/kernel/debug/liveupdate/sessions"):
        (system.root / path).unlink(missing_ok=True)
        (system.root / path).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(system.root / path)
    root = ("--sysroot", system.root)
    devices = tool("list", "--json", *root).json("list")["devices"]
    assert [device["iommu_group"] for device in devices] == [None] * 3
    assert {device["driver"] for device in devices} == {"?x\u00e4"}
    assert devices[1]["reason"] == "??\x1b[31m"
    tool("check", "--json", *root).json("check")
    tool("status", "--json", *root).json("status")
    for command in ("list", "check", "status"):
        assert "\x1b" not in tool(command, *root).out


def test_links_stay_inside(system):
    """Links of the system that is looked at lead to files of that system.

    That is beyond valgrind.
    """
    system.write("boot/else", "CONFIG_LIVEUPDATE=y\n")
    (system.root / "boot/config-7.3.4").symlink_to("/boot/else")
    (system.root / "proc/cmdline").unlink()
    (system.root / "proc/cmdline").symlink_to("/proc/cmdline.not")
    (system.root / "sys/kernel/kexec_loaded").unlink()
    (system.root / "sys/kernel/kexec_loaded").symlink_to("/etc/passwd")
    command = [*sanitized(), "check", "--json", "--sysroot", system.root]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    checks = {line["check"]: line for line in said["checks"]}
    assert "CONFIG_KEXEC_FILE" in checks["configuration"]["advice"]
    assert checks["kexec"]["result"] == "no"


def test_table_fits(system):
    """On a terminal no line is longer than the terminal is wide; elsewhere nothing is cut."""
    reason = "its IOMMU knows it under another requester ID"
    system.device("0000:01:00.0", ("yes", "iommu-alias", "yes"))
    command = [image.tool_program(), "list", "--sysroot", system.root]
    piped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert reason in piped and "QEMU NVM Express Controller" in piped
    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run(command, stdout=terminal, check=True)
    os.close(terminal)
    lines = os.read(ours, 1 << 16).decode().splitlines()
    os.close(ours)
    assert len(lines) > 2 and max(map(len, lines)) <= 80
    assert "".join(reason.split()) in "".join("".join(line[-30:].split()) for line in lines[1:])


def test_check(tool, system):
    """Check says what is missing and what to do, and its exit code is its verdict."""
    system.device("0000:01:00.0", GOOD)
    system.device("0000:02:00.0", ("yes", "pri", "yes"))
    root = ("--sysroot", system.root)
    assert tool("check", *root).code == OK
    assert tool("check", "--running", *root).code == REFUSED
    assert tool("check", "--running", "01:00.0", *root).code == OK
    said = tool("check", "-J", "-r", "0000:02:00.0", *root)
    assert not said.json("check")["ready"] and len(said.json("check")["devices"]) == 1
    said = tool("check", "0000:09:00.0", *root)
    assert said.code == FAILED and "no PCI device 0000:09:00.0" in said.err


def advice(said):
    """Return what check advises, by what it is about."""
    return {line["check"]: line["advice"] for line in said.json("check")["checks"]
            if line["result"] == "no"}


@pytest.mark.parametrize("cmdline, options, wanted", [
    ("quiet", ["LIVEUPDATE=y", "KEXEC_HANDOVER=y"], "boot with kho=on liveupdate=on"),
    ("quiet", ["LIVEUPDATE=y", "KEXEC_HANDOVER=y", "KEXEC_HANDOVER_ENABLE_DEFAULT=y"],
     "boot with liveupdate=on"),
    ("liveupdate=on", ["LIVEUPDATE=y", "KEXEC_HANDOVER=y"], "boot with kho=on"),
    ("liveupdate=on kho=on liveupdate=0", ["LIVEUPDATE=y"], "boot with liveupdate=on"),
    ('x="liveupdate=on y" kho=Y', ["LIVEUPDATE=y"], "boot with liveupdate=on"),
    ("quiet\tkho=off\tliveupdate=on", ["LIVEUPDATE=y", "KEXEC_HANDOVER_ENABLE_DEFAULT=y"],
     "boot with kho=on"),
    ('"liveupdate=on" kho="off"', ["LIVEUPDATE=y", "KEXEC_HANDOVER_ENABLE_DEFAULT=y"],
     "boot with kho=on"),
    ('liveupdate="on" kho=on -- liveupdate=off', ["LIVEUPDATE=y"], "the kernel's log says more"),
    ("kho=on -- liveupdate=on", ["LIVEUPDATE=y"], "boot with liveupdate=on"),
    ("liveupdate=on kho=on", ["KEXEC_HANDOVER=y"], "build the kernel with CONFIG_LIVEUPDATE"),
    ("liveupdate=on kho=on", ["LIVEUPDATE=n"], "build the kernel with CONFIG_LIVEUPDATE"),
    ("liveupdate=on kho=on", ["LIVEUPDATE=y"], "the kernel's log says more"),
])
def test_why_off(tool, system, cmdline, options, wanted):
    """Without /dev/liveupdate the tool says which parameter or option is missing."""
    (system.root / "dev/liveupdate").unlink()
    system.write("proc/cmdline", f"{cmdline}\n")
    system.configure(*options)
    root = ("--sysroot", system.root)
    assert advice(tool("check", "--json", *root))["live update"].startswith(wanted)
    said = tool("status", *root)
    assert said.code == REFUSED and "no /dev/liveupdate" in said.err and wanted in said.err


NO_ROOM = "KHO: Failed to reserve {} scratch buffer"
KHO_OFF = ("KHO: Failed to reserve scratch area, disabling kexec handover",
           "luo: Disabling liveupdate because KHO is disabled")


@pytest.mark.parametrize("parameter, log, wanted", [
    ("", (NO_ROOM.format("global"), *KHO_OFF),
     "this machine's memory has no room for the area 'global'"),
    ("kho_scratch=64M,64M,8G", (NO_ROOM.format("nid 0"), *KHO_OFF),
     "kho_scratch=64M,64M,8G does not fit into this machine's memory: no room for the area "
     "'nid 0'"),
    ("kho_scratch=8G", (NO_ROOM.format("lowmem"), *KHO_OFF),
     "this machine's memory has no room for the area 'lowmem'"),
    ("", ("KHO: disabled in the kdump kernel", KHO_OFF[1]),
     "this kernel is there to save the dump"),
], ids=["default", "given", "not-understood", "kdump"])
def test_why_handover_is_off(tool, system, parameter, log, wanted):
    """KHO that is off though nobody turned it off: the kernel's log has the reason."""
    (system.root / "dev/liveupdate").unlink()
    system.write("proc/cmdline", f"liveupdate=on kho=on {parameter}\n")
    system.configure("LIVEUPDATE=y", "KEXEC_HANDOVER=y")
    system.log("Linux version 7.3.4", *log, "done")
    root = ("--sysroot", system.root)
    said = advice(tool("check", "--json", *root))
    assert said["kexec handover"].startswith(wanted) and said["live update"].startswith(wanted)
    assert wanted in tool("status", *root).err


def test_why_live_update_is_off(tool, system):
    """LUO's last word is repeated where KHO is not the reason."""
    (system.root / "dev/liveupdate").unlink()
    system.configure("LIVEUPDATE=y", "KEXEC_HANDOVER=y")
    system.log("luo: no", "luo: LUO state is incompatible with 'luo-v5'", "KHO: fine")
    said = advice(tool("check", "--json", "--sysroot", system.root))
    assert said["live update"] == "the kernel says: LUO state is incompatible with 'luo-v5'"


@pytest.mark.parametrize("value, good", [
    ("200%", True), ("64M,64M,256M", True), ("0x1000000,0,1g", True), ("0,0,1", True),
    ("", False), ("%", False), ("-1%", False), ("4294967296%", False), ("64M", False),
    ("64M,64M", False), ("64M,64M,64M,", False), ("64M, 64M,64M", False), ("0,0,0", False),
    ("64MB,64M,64M", False), ("200 %", False), ("+5%", False),
])
def test_scratch_is_understood(tool, system, value, good):
    """What the kernel does not understand, and passes over, does not go unsaid."""
    system.write("proc/cmdline", f'liveupdate=on kho_scratch="{value}"\n')
    said = tool("check", "--json", "--sysroot", system.root)
    line = next(line for line in said.json("check")["checks"] if line["check"] == "kexec handover")
    assert (line["result"], line["value"]) == \
        (("ok", "on") if good else ("warning", "on, by default settings"))
    assert good or f"kho_scratch={value} is not understood" in line["advice"]
    assert tool("check", "--sysroot", system.root).code == OK


def test_no_scratch(tool, system):
    """A live update without memory for the next kernel is none: it could not be loaded."""
    system.write("proc/cmdline", "liveupdate=on kho_scratch=0%\n")
    said = tool("check", "--json", "--sysroot", system.root)
    assert "kho_scratch=0% sets nothing aside" in advice(said)["kexec handover"]
    assert said.code == REFUSED


@pytest.mark.parametrize("size, loaded_now, value, what", [
    (None, None, "not there", "CONFIG_CRASH_DUMP"),
    (0, 0, "no memory is set aside", "crashkernel="),
    (256 << 20, 0, "not loaded, 256 MiB", "intel_iommu=on"),
    (256 << 20, 1, "loaded, 256 MiB", None),
])
def test_crash_kernel(tool, system, size, loaded_now, value, what):
    """Whether a crash would leave a dump is said, and stands against nothing."""
    if size is not None:
        system.write("sys/kernel/kexec_crash_size", f"{size}\n")
        system.write("sys/kernel/kexec_crash_loaded", f"{loaded_now}\n")
    said = tool("check", "--json", "--sysroot", system.root)
    line = next(line for line in said.json("check")["checks"] if line["check"] == "crash kernel")
    assert line["result"] == ("warning" if what else "ok") and line["value"].startswith(value)
    assert what in line["advice"] if what else line["advice"] is None
    assert said.code == OK


def test_what_is_missing(tool, system):
    """Each switch has its advice."""
    for path in ("sys/class/iommu/dmar0/intel-iommu/ecap", "sys/kernel/kexec_loaded",
                 "sys/class/misc/iommu/dev", "sys/bus/pci/drivers/vfio-pci/bind",
                 "sys/bus/pci/drivers/vfio-pci/unbind"):
        (system.root / path).unlink()
    for path in ("sys/class/iommu/dmar0/intel-iommu", "sys/class/iommu/dmar0",
                 "sys/class/misc/iommu", "sys/bus/pci/drivers/vfio-pci"):
        (system.root / path).rmdir()
    system.configure("KEXEC_FILE=y", "LIVEUPDATE=y")
    said = advice(tool("check", "--json", "--sysroot", system.root))
    assert "intel_iommu=on" in said["IOMMU"]
    assert "CONFIG_KEXEC_FILE" in said["kexec"]
    assert "CONFIG_IOMMUFD_LIVEUPDATE" in said["iommufd"]
    assert "CONFIG_VFIO_PCI_LIVEUPDATE" in said["vfio-pci"]
    assert "CONFIG_KEXEC_HANDOVER CONFIG_LIVEUPDATE_MEMFD" in said["configuration"]
    system.write("lib/modules/7.3.4/modules.alias", "alias liveupdate-vfio-pci-v4 vfio_pci\n"
                                                    "alias liveupdate-iommufd-v1 iommufd\n")
    system.write("sys/kernel/kexec_loaded", "0\n")
    system.write("proc/sys/kernel/kexec_load_disabled", "1\n")
    said = advice(tool("check", "--json", "--sysroot", system.root))
    assert "kexec_load_disabled" in said["kexec"]
    assert set(said) == {"kexec", "IOMMU", "configuration"}


SESSIONS = r"""session incoming retrieved vm one
file 1 retrieved memfd-v2
file 2 retrieved vfio-pci-v4 0000:01:00.0
file 3 -19 vfio-pci-v4
session incoming waiting b\033[31m\134
file 18446744073709551615 waiting vfio-pci-v4
session outgoing open  empty
session outgoing open out
file 7 preserved vfio-pci-v4 0000:03:00.0
needs luo-v5 vfio-pci-v4
"""


def test_status(tool, system):
    """Sessions, their files and the devices in them, in both directions."""
    system.device("0000:01:00.0", GOOD, liveupdate="incoming running")
    system.device("0000:02:00.0", GOOD, None, "incoming idle")
    system.device("0000:03:00.0", GOOD, liveupdate="incoming idle\noutgoing running")
    system.device("0000:04:00.0", None, "pcieport", "outgoing bridge", 0x060400)
    system.sessions(SESSIONS)
    system.write("sys/kernel/kexec_loaded", "1\n")
    root = ("--sysroot", system.root)
    said = tool("status", "--json", *root).json("status")
    keys = ("device", "direction", "mode", "state", "session")
    assert [tuple(line[key] for key in keys) for line in said["devices"]] == [
        ("0000:01:00.0", "incoming", "running", "retrieved", "vm one"),
        ("0000:02:00.0", "incoming", "idle", "waiting", None),
        ("0000:03:00.0", "incoming", "idle", "waiting", None),
        ("0000:03:00.0", "outgoing", "running", "preserved", "out"),
    ]
    assert said["kexec_loaded"]
    assert [(line["session"], line["state"], line["files"]) for line in said["sessions"]] == [
        ("vm one", "retrieved", 3), ("b\\033[31m\\134", "waiting", 1), (" empty", "open", 0),
        ("out", "open", 1)]
    assert [(line["token"], line["state"]) for line in said["files"]] == [
        ("1", "retrieved"), ("2", "retrieved"), ("3", "ENODEV"), (str(2 ** 64 - 1), "waiting"),
        ("7", "preserved")]
    text = tool("status", *root).out
    assert "1 file from the previous kernel: waiting" in text
    assert "2 files from the previous kernel: retrieved" in text
    assert "1 file to go to the next kernel, which is loaded" in text
    system.sessions("")
    assert "no live update sessions" in tool("status", *root).out


# --- virtual functions ---

PARENT = ("has-virtual-functions", "yes")
ORPHAN = ("physical-function", "physical-function", "yes")


@pytest.fixture
def functions(system):
    """Physical functions in each way: vfio-pci's, native, to be held, held; each with two VFs."""
    for number, (driver, words, hold, told, vf_words, vf_told) in enumerate((
            ("vfio-pci", (*PARENT, "yes"), 0, "outgoing running", GOOD, "outgoing running"),
            ("igb", (*PARENT, "other-driver"), 0, "none", ORPHAN, "none"),
            ("igb", (*PARENT, "other-driver"), 1, "outgoing held", GOOD, "outgoing running"),
            (None, (*PARENT, "no-driver"), 0, "incoming held", GOOD, "none")), 1):
        pf = f"0000:{number:02x}:00.0"
        vfs = [f"0000:{number:02x}:10.{function}" for function in (0, 2)]
        system.device(pf, words, driver, told, 0x020000)
        for vf in vfs:
            system.device(vf, vf_words, "vfio-pci", vf_told, 0x020000)
        system.functions(pf, *vfs, hold=hold)
    return system


def plain(text):
    """Return a table as it is where there is no UTF-8."""
    return text.translate(str.maketrans({"\u251c": "|", "\u2514": "`", "\u2500": "-"}))


def columns(text, *names):
    """Return some columns of a table, which are as wide as the widest line has it."""
    lines = plain(text).partition("\n\n")[0].splitlines()
    heads = re.findall(r"\S+ *", lines[0])
    starts = [sum(map(len, heads[:number])) for number in range(len(heads) + 1)]
    ends = [*starts[1:-1], None]
    picked = [(starts[number], ends[number]) for number, head in enumerate(heads)
              if head.strip() in names]
    return [tuple(line[start:end].strip() for start, end in picked) for line in lines[1:]]


def test_list_virtual_functions(tool, functions):
    """Virtual functions are below their physical one; what can be done for each is said."""
    root = ("--sysroot", functions.root)
    said = {device["device"]: device
            for device in tool("list", "--json", *root).json("list")["devices"]}
    assert list(said) == [f"0000:0{number}:{rest}" for number in range(1, 5)
                          for rest in ("00.0", "10.0", "10.2")]
    assert [said[f"0000:0{number}:10.2"]["physfn"] for number in range(1, 5)] == [
        f"0000:0{number}:00.0" for number in range(1, 5)]
    assert {(bdf[-4:], device["vfs"]) for bdf, device in said.items()} == {
        ("00.0", 2), ("10.0", 0), ("10.2", 0)}
    assert [bdf for bdf, device in said.items() if device["hold"]] == ["0000:03:00.0"]
    native = "its driver takes no part: "
    assert [summary(said[f"0000:0{number}:00.0"]) for number in range(1, 5)] == [
        (True, False, True, "has-virtual-functions", "idle mode would end its virtual functions"),
        (False, False, True, "other-driver", f"{native}bind it to vfio-pci, or hold it for its "
         "virtual functions: vfio-liveupdate hold 0000:02:00.0"),
        (False, False, True, "other-driver", f"{native}held for its virtual functions"),
        (False, False, True, "no-driver", "no driver is bound: held for its virtual functions")]
    assert said["0000:04:00.0"]["incoming"] == said["0000:03:00.0"]["outgoing"] == "held"
    assert summary(said["0000:02:10.0"]) == (
        False, False, False, "physical-function", "the driver of its physical function takes no "
        "part: bind 0000:02:00.0 to vfio-pci, or hold it: vfio-liveupdate hold 0000:02:00.0")
    for vf in ("0000:01:10.0", "0000:03:10.0", "0000:04:10.2"):
        assert summary(said[vf]) == (True, True, True, None, None)
    lines = columns(tool("list", *root).out, "DEVICE", "PRESERVE")
    assert [mode for _, mode in lines] == [
        "running", "running, idle", "running, idle", "no", "no", "no",
        "held", "running, idle", "running, idle", "held", "running, idle", "running, idle"]
    assert [device for device, _ in lines[:3]] == [
        "0000:01:00.0", "|-0000:01:10.0", "`-0000:01:10.2"]
    # One whose physical function is not asked for is below none
    alone = columns(tool("list", "01:10.0", "02:00.0", *root).out, "DEVICE")
    assert alone == [("0000:01:10.0",), ("0000:02:00.0",)]


def test_strange_functions(tool, system):
    """Links that lead nowhere, or in circles, lose no device."""
    devices = [f"0000:0{number}:00.0" for number in range(4)]
    for bdf in devices:
        system.device(bdf, GOOD)
    for pf, vf in ((0, 1), (1, 0), (2, 2)):
        system.functions(devices[pf], devices[vf])
    (system.root / f"sys/bus/pci/devices/{devices[3]}/physfn").symlink_to("../0000:09:00.0")
    root = ("--sysroot", system.root)
    lines = columns(tool("list", *root).out, "DEVICE")
    assert sorted(bdf for line in lines for bdf in line) == devices
    assert tool("check", *root).code == OK


def test_check_virtual_functions(tool, functions):
    """With a virtual function goes its physical one: judged if it is preserved, not if held."""
    root = ("--sysroot", functions.root)
    said = tool("check", "--running", "01:10.0", *root)
    assert said.code == OK and "Ready: 2 devices can be preserved in running mode" in said.out
    assert "`-0000:01:10.0" in plain(said.out) and "is held" not in said.out
    said = tool("check", "--running", "03:10.0", "03:10.2", *root)
    assert said.code == OK and "Ready: 2 devices can be preserved in running mode" in said.out
    assert "0000:03:00.0 is held for 2 of these: no driver of the next kernel" in said.out
    assert "release 0000:03:00.0" in said.out and "`-0000:03:10.2" in plain(said.out)
    said = tool("check", "--json", "03:00.0", "03:10.0", *root).json("check")
    assert [device["device"] for device in said["devices"]] == ["0000:03:10.0"] and said["ready"]
    said = tool("check", "02:10.0", *root)
    assert said.code == REFUSED and "1 of 1 devices cannot be preserved" in said.out
    assert "is held" not in said.out
    assert tool("check", "02:00.0", *root).code == REFUSED


def test_status_virtual_functions(tool, functions):
    """Status shows what is held, and for which virtual functions, also when all is finished."""
    functions.sessions("session outgoing open out\nfile 1 preserved vfio-pci-v4 0000:01:00.0\n"
                       "file 2 preserved vfio-pci-v4 0000:01:10.0\n")
    root = ("--sysroot", functions.root)
    said = tool("status", "--json", *root).json("status")["devices"]
    keys = ("device", "direction", "mode", "state", "session")
    lines = [tuple(line[key] for key in keys) for line in said]
    assert lines[:2] == [("0000:01:00.0", "outgoing", "running", "preserved", "out"),
                         ("0000:01:10.0", "outgoing", "running", "preserved", "out")]
    assert lines[3] == ("0000:03:00.0", "outgoing", "held", None, None)
    assert lines[6:] == [("0000:04:00.0", "incoming", "held", None, None)]
    text = tool("status", *root).out
    assert columns(text, "DEVICE", "MODE") == [
        ("0000:01:00.0", "running"), ("|-0000:01:10.0", "running"), ("`-0000:01:10.2", "running"),
        ("0000:03:00.0", "held"), ("|-0000:03:10.0", "running"), ("`-0000:03:10.2", "running"),
        ("0000:04:00.0", "held"), ("|-0000:04:10.0", ""), ("`-0000:04:10.2", "")]
    assert "0000:03:00.0 is held from the jump on" in text
    assert "0000:04:00.0 is held, no driver has it: 'vfio-liveupdate release 0000:04:00.0'" in text


def test_hold(tool, functions):
    """Hold writes what the kernel wants, for all devices or for none."""
    root = ("--sysroot", functions.root)
    said = tool("hold", "02:00.0", *root)
    assert said.code == OK and functions.value("0000:02:00.0", "liveupdate_hold") == "1"
    assert "0000:02:00.0 is held when" in said.out and "vfio-liveupdate: " not in said.err
    said = tool("hold", "--undo", "0000:02:00.0", "03:00.0", *root)
    assert said.code == OK and "vfio-liveupdate: " not in said.err
    for bdf in ("0000:02:00.0", "0000:03:00.0"):
        assert f"{bdf} is not to be held" in said.out
        assert functions.value(bdf, "liveupdate_hold") == "0"
    said = tool("hold", "01:00.0", *root)
    assert said.code == OK and "warning: 0000:01:00.0 is bound to vfio-pci: its" in said.err
    said = tool("hold", "-u", "04:00.0", *root)
    assert said.code == OK and "came held" in said.err and "release 0000:04:00.0" in said.err
    functions.device("0000:05:00.0", GOOD)
    for words, what in ((("02:00.0", "02:10.0"), "0000:02:10.0 is a virtual function: name its "
                         "physical one, 0000:02:00.0"),
                        (("02:00.0", "05:00.0"), "0000:05:00.0 is no physical function"),
                        (("02:00.0", "09:00.0"), "there is no PCI device 09:00.0")):
        said = tool("hold", *words, *root)
        assert said.code == FAILED and what in said.err and not said.out
        assert functions.value("0000:02:00.0", "liveupdate_hold") == "0"
    (functions.root / "sys/bus/pci/devices/0000:02:00.0/liveupdate_hold").unlink()
    said = tool("hold", "02:00.0", *root)
    assert said.code == FAILED and "this kernel holds no devices" in said.err


def test_release(tool, functions):
    """Release says what ends, and does nothing unasked."""
    root = ("--sysroot", functions.root)
    vf = "0000:04:10.2"
    functions.opened(77, "qemu", "anon_inode:[vfio-device]", "0000:01:10.0", vf)
    functions.opened(78, "other", "/dev/zero", "0000:04:10.0")
    said = tool("release", "04:00.0", *root)
    assert said.code == REFUSED and "no terminal to ask; --yes goes on" in said.err
    assert functions.value("0000:04:00.0", "liveupdate_release") == ""
    assert [line.split()[0] for line in plain(said.out).splitlines()[1:4]] == [
        "0000:04:00.0", "|-0000:04:10.0", f"`-{vf}"]
    assert ["77 (qemu)" in line for line in said.out.splitlines()[2:4]] == [False, True]
    said = tool("release", "--yes", "04:00.0", *root)
    assert said.code == OK and functions.value("0000:04:00.0", "liveupdate_release") == "1"
    assert vf in said.out and "is released, and no driver has taken it" in said.out
    # Each write is to the beginning, where files are no attributes
    assert (functions.root / "sys/bus/pci/drivers/vfio-pci/unbind").read_text() == vf
    for words, code, what in (
            (("01:00.0",), FAILED, "0000:01:00.0 is not held"),
            (("04:00.0", "01:00.0"), FAILED, "0000:01:00.0 is not held"),
            (("04:10.0",), FAILED, "is a virtual function"),
            (("09:00.0",), FAILED, "no PCI device 09:00.0")):
        said = tool("release", "--yes", *words, *root)
        assert said.code == code and what in said.err and not said.out
    # One that came with virtual functions and was never taken over can be had in the same way
    functions.write("sys/bus/pci/devices/0000:04:00.0/liveupdate", "none\n")
    functions.write("sys/bus/pci/devices/0000:04:00.0/liveupdate_release", "\n")
    assert tool("release", "--yes", "04:00.0", *root).code == OK
    assert functions.value("0000:04:00.0", "liveupdate_release") == "1"
    functions.write(f"sys/bus/pci/devices/{vf}/liveupdate", "incoming running\n")
    said = tool("release", "--yes", "04:00.0", *root)
    assert said.code == REFUSED and f"its virtual function {vf} is in a live update" in said.err


@pytest.mark.parametrize("answer, code", [("y", OK), ("YES", OK), ("n", REFUSED), ("", REFUSED),
                                          ("\4", REFUSED)], ids=repr)
def test_release_asks(functions, answer, code):
    """On a terminal release asks, and takes nothing but yes for yes."""
    ours, terminal = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    done = subprocess.run([image.tool_program(), "release", "04:00.0", "-s", functions.root],
                          stdin=terminal, capture_output=True, text=True, check=False)
    os.close(terminal)
    os.close(ours)
    assert done.returncode == code and "Go on? [y/N]" in done.stderr
    assert functions.value("0000:04:00.0", "liveupdate_release") == ("1" if code == OK else "")


def read_as_doubles(text):
    """Read JSON as JavaScript does, and jq before 1.7: numbers have 53 bits."""
    return json.loads(text, parse_int=float)


def read_by_jq(text):
    """Read JSON by jq, and write it anew."""
    jq = shutil.which("jq")
    if not jq:
        pytest.skip("jq is not there")
    # Whatever it does to numbers, it does when it calculates.
    program = "walk(if type == \"number\" then . + 0 else . end)"
    return json.loads(subprocess.run([jq, program], input=text, capture_output=True, text=True,
                                     check=True).stdout)


@pytest.mark.parametrize("read", [json.loads, read_as_doubles, read_by_jq],
                         ids=lambda read: read.__name__)
def test_tokens_are_exact(tool, system, read):
    """Whoever reads the JSON gets the very tokens: the manifest's has more than 53 bits."""
    tokens = [0, 2 ** 53 + 1, MANIFEST_TOKEN, 2 ** 64 - 1]
    system.sessions("session outgoing open out\n" + "".join(
        f"file {token} preserved memfd-v2\n" for token in tokens))
    said = read(tool("status", "--json", "--sysroot", system.root).out)
    assert [int(line["token"]) for line in said["files"]] == tokens


@pytest.mark.parametrize("text", ["file 1 waiting x\n", "session\n", "session incoming\n",
                                  "session incoming waiting x\nfile\n",
                                  "session incoming waiting x\nfile one waiting memfd-v2\n",
                                  f"needs {'x' * 300} {'y' * 300}\n"])
def test_strange_sessions(tool, system, text):
    """A list of sessions that cannot be understood is an error, and nothing worse."""
    system.sessions(text)
    said = tool("status", "--sysroot", system.root)
    assert said.code == FAILED and "cannot be read" in said.err


def test_no_debugfs(tool, system):
    """Without the list of sessions the devices are shown, and what to do is said."""
    system.device("0000:01:00.0", GOOD, liveupdate="incoming running")
    said = tool("status", "--sysroot", system.root)
    assert said.code == FAILED and "mount debugfs" in said.err
    assert "0000:01:00.0" in said.out and "waiting" not in said.out


def test_dry_run_on_the_host(tool):
    """A dry run changes nothing, wherever it is tried: here it sees that all is put together."""
    said = tool("kexec", "--kernel", "/dev/null", "--append", 'a "b', "--dry-run", "--force", "-J")
    assert said.code == (OK if os.geteuid() == 0 else NEEDS_ROOT), said
    if said.code == OK:
        plan, = said.json("kexec")["plan"]
        assert plan["cmdline"] == 'a "b' and plan["initrd"] is None
        assert said.json("kexec")["versions"] == []


def test_image_that_is_read(tool, tmp_path):
    """What an image declares is said, in whatever order its bytes are wrong."""
    if os.geteuid():
        pytest.skip("kexec is root's")
    data = Kernel.named("lab-b").image.read_bytes()
    declared = bzimage.Declaration.of(data).versions
    path = tmp_path / "bzImage"
    for content, wanted in (
            (data, declared), (bzimage.edited(data, bzimage.removed), ()),
            (bzimage.edited(data, bzimage.too_long), ()), (data[:600], ()), (b"", ()),
            (bzimage.edited(data, bzimage.raised("pci-v3")),
             ["pci-v9" if version == "pci-v3" else version for version in declared])):
        path.write_bytes(content)
        said = tool("kexec", "-k", path, "--append", "x", "--dry-run", "--force", "-J")
        versions = said.json("kexec")["versions"]
        assert [line["version"] for line in versions] == list(wanted)
        assert all(line["taken"] and not line["missing"] for line in versions)


@pytest.mark.parametrize("plus", [True, False])
def test_unified_image(tool, tmp_path, plus):
    """A UKI is refused before anything is done; whatever is cut off of one crashes nothing."""
    if os.geteuid():
        pytest.skip("kexec is root's")
    path = tmp_path / "uki"
    whole = bzimage.pe((b".osrel", b"x"), (b".linux", b"y"), signature=b"z", plus=plus)
    for size, wanted in ((len(whole), True), (len(whole) - 3, True), *(
            (size, False) for size in (0, 1, 2, 0x3d, 0x40, 0x82, 0x87, 0x99, 0x100, 0x1a0))):
        path.write_bytes(whole[:size])
        said = tool("kexec", "-k", path, "--append", "x", "--dry-run")
        assert said.code == REFUSED
        assert ("is a unified kernel image (UKI), which cannot be loaded" in said.err) == wanted
    for image_of in (bzimage.pe((b".text", b"x")), whole.replace(b".linux", b".linuz"),
                     whole[:0x80] + b"NE" + whole[0x82:], whole[:0x202] + b"HdrS" + whole[0x206:]):
        path.write_bytes(image_of)
        assert "UKI" not in tool("kexec", "-k", path, "--append", "x", "--dry-run").err


@pytest.mark.parametrize("modes, log, options, result, value, advised", [
    ("[none] integrity confidentiality", (), [], "ok", "allowed", None),
    ("none [integrity] confidentiality", (), ["KEXEC_SIG=y", "KEXEC_BZIMAGE_VERIFY_SIG=y"],
     "ok", "signed images only (lockdown=integrity)", None),
    ("none [integrity] confidentiality", (), ["KEXEC_SIG=y"], "no",
     "signed images only (lockdown=integrity)", "CONFIG_KEXEC_BZIMAGE_VERIFY_SIG"),
    ("none integrity [confidentiality]", (), [], "no",
     "signed images only (lockdown=confidentiality)",
     "CONFIG_KEXEC_SIG CONFIG_KEXEC_BZIMAGE_VERIFY_SIG"),
    (None, ("Kernel is locked down from EFI Secure Boot mode; see man kernel_lockdown.7",),
     ["KEXEC_SIG=y", "KEXEC_BZIMAGE_VERIFY_SIG=y"], "ok",
     "signed images only (the kernel is locked down)", None),
    (None, (), ["KEXEC_SIG=y", "KEXEC_BZIMAGE_VERIFY_SIG=y", "KEXEC_SIG_FORCE=y"], "ok",
     "signed images only (CONFIG_KEXEC_SIG_FORCE)", None),
    ("none [integrity] confidentiality", (), ["IMA_APPRAISE=y"], "ok",
     "signed images only (lockdown=integrity)", None),
    ("none [integrity] confidentiality", (), ["IMA_APPRAISE=y", "KEXEC_SIG_FORCE=y"], "no",
     "signed images only (lockdown=integrity)", "CONFIG_KEXEC_SIG"),
    ("none [integrity", (), [], "ok", "allowed", None), ("", (), [], "ok", "allowed", None),
], ids=str)
def test_lockdown(tool, system, modes, log, options, result, value, advised):
    """Where only signed images can be loaded, check says so, and whether any can."""
    if modes is not None:
        system.write("sys/kernel/security/lockdown", f"{modes}\n")
    system.log(*log)
    system.configure(*options)
    said = tool("check", "--json", "--sysroot", system.root)
    line = next(line for line in said.json("check")["checks"] if line["check"] == "kexec")
    assert (line["result"], line["value"]) == (result, value)
    assert advised in line["advice"] if advised else line["advice"] is None


@pytest.mark.parametrize("typed, wanted", [
    (["ch"], {"check"}), ([""], {*COMMANDS, "--help", "--version"}),
    (["kexec", "--re"], {"--reuse-cmdline"}), (["list", "--a"], {"--all"}),
    (["status", "--a"], set()), (["fly", "--a"], set()), (["kexec", "-a", "--"], set()),
    (["hold", "--u"], {"--undo"}), (["release", "--y"], {"--yes"}),
], ids=lambda words: " ".join(sorted(words)))
def test_completion(typed, wanted):
    """Bash completes commands and their options."""
    script = ('. "$1"; shift; COMP_WORDS=(vfio-liveupdate "$@"); COMP_CWORD=$#;'
              '_vfio_liveupdate; printf "%s\\n" "${COMPREPLY[@]}"')
    done = subprocess.run(["bash", "-c", script, "-", paths.ROOT / "tool/vfio-liveupdate.bash",
                           *typed], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == wanted and not done.stderr


def test_install(tmp_path):
    """Everything goes where a package wants it."""
    image.tool_program()
    subprocess.run(["meson", "install", "-C", paths.BUILD / "tool", "--no-rebuild",
                    "--destdir", tmp_path], check=True, stdout=subprocess.DEVNULL)
    there = {str(path.relative_to(tmp_path / "usr/local")) for path in tmp_path.rglob("*")
             if path.is_file()}
    assert there == {"sbin/vfio-liveupdate", "share/man/man8/vfio-liveupdate.8",
                     "share/bash-completion/completions/vfio-liveupdate",
                     "share/vfio-liveupdate/schema.json"}


# --- in a machine -------------------------------------------------------------------------------

def run(m, *arguments, user=None, timeout=None):
    """Run the tool in a machine."""
    command = f"vfio-liveupdate {' '.join(map(str, arguments))}"
    if user:
        m.sh(f"grep -q ^{user}: /etc/passwd || echo {user}:x:1000:1000::/:/bin/sh >>/etc/passwd")
        command = f"su {user} -c '{command}'"
    code = int(m.sh(f"{command} </dev/null >/tmp/out 2>/tmp/err; echo $?", timeout=timeout))
    return Said(code, m.sh("cat /tmp/out"), m.sh("cat /tmp/err"))


def ask(m, command, *arguments):
    """Run a command of the tool that succeeds, and return its JSON."""
    said = run(m, command, "--json", *arguments)
    assert said.code == OK, said
    return said.json(command)


def answers(m):
    """Return what list says of the devices of a machine, by their addresses."""
    return {device["device"]: device for device in ask(m, "list")["devices"]}


def summary(device):
    """Return the part of what list says of a device that decides."""
    return tuple(device[key] for key in ("preservable", "idle", "running", "cause", "reason"))


def loaded(m):
    """Return whether a machine has loaded the next kernel."""
    return m.sh("cat /sys/kernel/kexec_loaded") == "1"


def kexec(kernel, *more):
    """Return the words of a command that loads a kernel and jumps."""
    return ("kexec", "--kernel", f"/images/{kernel.flavour}/bzImage", "--initrd", INITRD, *more)


MIXED = (*PAIR, Port(TwoFunctions("twin")), Port(Ats("ats0")), Port(Igb("igb1")))


def test_devices(start):
    """What the kernel can do with devices of all kinds, it says and the tool repeats."""
    m = start(topology=MIXED, device_iotlb=True)
    nvme, igb, twin, ats, pf = map(m.bdf, ("nvme0", "igb0", "twin-0", "ats0", "igb1"))
    said = answers(m)
    unbound = (False, True, True, "other-driver", "its driver takes no part: bind it to vfio-pci")
    assert summary(said[nvme]) == summary(said[igb]) == unbound
    m.sh(f"echo 1 >/sys/bus/pci/devices/{pf}/sriov_numvfs")
    vf = m.bdf("igb1vf0")
    for bdf in (nvme, ats, twin, m.bdf("twin-1"), vf):
        m.bind_vfio(bdf)
    said = answers(m)
    assert summary(said[nvme]) == (True, True, True, None, None)
    assert summary(said[ats]) == (True, True, True, None, None)
    shared = (False, False, False, "shared-iommu-group", "not alone in its IOMMU group")
    assert summary(said[twin]) == shared
    # igb takes part.
    assert summary(said[vf]) == (True, True, True, None, None)
    assert summary(said[pf])[:4] == (False, False, True, "other-driver")
    assert said[pf]["reason"].endswith(f"vfio-liveupdate hold {pf}")
    assert run(m, "check", nvme, ats).code == OK
    assert run(m, "check", "--running", nvme).code == OK
    assert run(m, "check", "--running", nvme, ats).code == OK
    assert run(m, "check", "--running", nvme, twin).code == REFUSED
    assert run(m, "check", twin).code == REFUSED
    assert run(m, "check").code == REFUSED
    owner = Owner(m)
    owner.worker.vfio("Dats0", ats)
    owner.worker.vfio("Dtwin", twin)
    owner.preserve("ats0")
    assert owner.fails("preserve", "S", 2, "Dtwin") == "EXDEV"
    assert answers(m)[ats]["outgoing"] == "idle"
    every = {device["device"]: device for device in ask(m, "list", "--all")["devices"]}
    above = bridges(m, ats)
    assert above and all("bridge" in every[bridge]["reason"] for bridge in above)
    assert every[above[0]]["outgoing"] == "bridge"


def test_device_is_being_unbound(small):
    """Who unbinds a device waits for its user; who asks about the device does not."""
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    worker = small.worker("unbinder")
    worker.start("sh", f"echo {bdf} >/sys/bus/pci/drivers/vfio-pci/unbind")
    small.sh(f"while ls -d /sys/bus/pci/devices/{bdf}/vfio-dev/*; do sleep 0.1; done 2>&1")
    assert summary(answers(small)[bdf])[:3] == (True, True, True)
    owner.worker.kill()
    worker.wait()
    assert summary(answers(small)[bdf])[3:] == ("no-driver",
                                                "no driver is bound: bind it to vfio-pci")


def device_lines(m):
    """Return what status says of devices."""
    keys = ("device", "direction", "mode", "state", "session")
    return [tuple(line[key] for key in keys) for line in ask(m, "status")["devices"]]


def file_states(m):
    """Return the states of all files in sessions."""
    return [line["state"] for line in ask(m, "status")["files"]]


SILENCE = "/sys/module/vfio_pci/parameters/liveupdate_silence"


def test_silence(start):
    """Root can have interrupts that a program left on not refuse the jump; else it is named."""
    m = start(topology=PAIR)
    owner, other = Running(m), Owner(m, "other")
    owner.open("nvme0")
    owner.start()
    owner("vfio_irq_on", "Dnvme0", "MSIX", 2)
    bdf, = other.own("igb0")
    other("vfio_irq_on", "Digb0", "MSIX", 1)
    owner.preserve()
    other.preserve("igb0")
    words = kexec(m.next_kernel, "--reuse-cmdline")
    said = run(m, *words)
    assert said.code == REFUSED
    assert "Interrupts are still enabled. (preserved by " in said.err and "--silence" in said.err
    # Refused by something else: the parameter is what it was, and those that were carried are on
    with no_reset(m, bdf):
        said = run(m, *words, "--silence")
    assert said.code == REFUSED and "Could not be quiesced" in said.err
    assert "--silence" not in said.err and m.sh(f"cat {SILENCE}") == "N"
    assert owner("vfio_irq_count", "Dnvme0").values == ["1", "1"]
    other("vfio_irq_on", "Digb0", "MSIX", 1)
    m.kexec_by(f"vfio-liveupdate {' '.join(map(str, words))} --silence")
    m.wait_console(f"{bdf}: live update: interrupts are turned off that were left on", "load")
    m.wait_console("0000:.*: live update: interrupts go along that were left on", "load")
    owner.retrieve()
    assert m.sh(f"cat {SILENCE}") == "N"
    assert owner("vfio_irq_came", "Dnvme0").values == ["MSIX", "2", "0x3"]
    other.retrieve("igb0")
    assert other.fails("vfio_irq_came", "Digb0") == "ENOENT"
    owner.handover()
    owner.finish()
    other.finish()
    see_nothing_lost(owner.settle())
    see_no_faults(owner)


def test_running_update(start):
    """A drive crosses in running mode by `kexec`; status shows each step; nothing is lost."""
    m = start(topology=PAIR)
    owner = Running(m)
    owner.open("nvme0")
    owner.start()
    bdf = m.bdf("nvme0")
    assert run(m, "check", "--running").code == OK
    assert ask(m, "status") == {"kexec_loaded": False, "devices": [], "sessions": [], "files": []}
    owner.preserve()
    assert device_lines(m) == [(bdf, "outgoing", "running", "preserved", "running")]
    assert [(line["kind"].rpartition("-")[0], line["what"]) for line in ask(m, "status")["files"]] \
        == [("memfd", None), ("iommufd", None), ("vfio-pci", bdf)]
    for words in ("intel_iommu=sm_off,off", "iommu=off iommu=pt", "iommu=pt,off",
                  "intel_iommu=off intel_iommu=sm_on"):
        said = run(m, *kexec(m.next_kernel, "--append", f"'{words}'", "-r", "-n"))
        assert said.code == REFUSED and "turns off the IOMMU" in said.err
    for words in ("intremap=off", "nointremap", "noapic", "maxcpus=0", "intremap=on,off"):
        said = run(m, *kexec(m.next_kernel, "--append", f"'{words}'", "-r", "-n"))
        assert said.code == REFUSED and "turns off interrupt remapping" in said.err
    # No device has ATS.
    for words in ("intel_iommu=off intel_iommu=on", "pci=noats", "intremap=off intremap=on",
                  "maxcpus=1"):
        assert run(m, *kexec(m.next_kernel, "--append", f"'{words}'", "-r", "-n")).code == OK
    before = m.sh(BOOT_ID)
    m.kexec_by(f"vfio-liveupdate {' '.join(kexec(m.next_kernel, '--reuse-cmdline'))}")
    assert m.sh(BOOT_ID) != before
    assert m.sh("cat /proc/cmdline") == m.command_line()
    assert device_lines(m) == [(bdf, "incoming", "running", "waiting", None)]
    assert file_states(m) == ["waiting"] * 3
    said = run(m, *kexec(m.next_kernel, "-r", "-n"))
    assert said.code == REFUSED and "session 'running' came from the previous kernel" in said.err
    owner.retrieve()
    assert device_lines(m) == [(bdf, "incoming", "running", "retrieved", "running")]
    assert file_states(m) == ["retrieved"] * 3
    owner.handover()
    owner.finish()
    assert ask(m, "status") == {"kexec_loaded": False, "devices": [], "sessions": [], "files": []}
    see_nothing_lost(owner.settle())
    see_undisturbed(owner)
    see_no_faults(owner)
    see_dma(owner)


@pytest.mark.thorough
def test_kernel_that_lacks_something(start):
    """A kernel that does not take a running device is refused before it is loaded."""
    m = start(topology=PAIR)
    owner = Running(m)
    owner.open("nvme0")
    owner.start()
    owner.preserve()
    path = bzimage.spoil(m, bzimage.raised("iommu-v3"))
    words = ("kexec", "--kernel", path, "--initrd", INITRD, "--reuse-cmdline")
    why = "does not take iommu-v3, which preserved files need; it takes "
    said = run(m, *words)
    assert said.code == REFUSED and why in said.err and not loaded(m)
    said = run(m, *words, "--dry-run")
    assert said.code == REFUSED and why in said.err and not said.out
    said = run(m, *words, "--dry-run", "--json")
    assert said.code == REFUSED and said.json("kexec")["refused"]
    lines = {line["version"]: line for line in said.json("kexec")["versions"]}
    assert [name for name, line in lines.items() if line["missing"]] == ["iommu-v3"]
    assert [name for name, line in lines.items() if not line["taken"]] == ["iommu-v3"]
    # Nothing here is in huge pages
    assert {name for name, line in lines.items() if not line["needed"]} == {"iommu-v9", HUGE}
    # The kernel has the last word.
    said = run(m, *words, "--force")
    assert said.code == REFUSED and loaded(m)
    assert "the kernel says: luo: Freeze failed! The next kernel does not take iommu-v3" in said.err
    said = run(m, *kexec(m.next_kernel, "-r", "-n", "--json")).json("kexec")
    assert not said["refused"]
    assert {line["version"] for line in said["versions"] if not line["needed"]} == {HUGE}
    m.mark("refused")
    see_undisturbed(owner, "load", "refused")
    m.kexec_by(f"vfio-liveupdate {' '.join(kexec(m.next_kernel, '-r'))}")
    owner.retrieve()
    owner.handover()
    owner.finish()
    see_nothing_lost(owner.settle())
    see_undisturbed(owner)


def test_kernel_refuses(small):
    """The kernel refuses to jump while interrupts are on: the tool repeats why; all goes on."""
    owner = Owner(small)
    bdf, = owner.own("nvme0")
    owner("vfio_irq_on", "Dnvme0", "MSIX", 1)
    owner.preserve("nvme0")
    said = run(small, *kexec(small.next_kernel, "-r"))
    assert said.code == REFUSED
    assert f"{bdf}: Freeze failed! Interrupts are still enabled." in said.err
    assert loaded(small) and state(small, bdf) == "outgoing idle"
    assert "which is loaded" in run(small, "status").out
    owner("vfio_irq_off", "Dnvme0", "MSIX")
    unknowing = bzimage.spoil(small, bzimage.removed)
    said = run(small, "kexec", "--kernel", unknowing, "-r", "-n")
    assert said.code == OK and "It takes nothing." in said.out
    assert ("session 'test', token 1: the next kernel does not take vfio-pci-v4, the file stays "
            "behind") in said.err
    small.kexec_by(f"vfio-liveupdate {' '.join(kexec(small.next_kernel, '-r'))}")
    owner.take_over("nvme0")


def test_kexec_refusals(small):
    """What is wrong with files and command lines is found before anything is done."""
    m = small
    for words, code, what in (
            (kexec(m.next_kernel, "--append", "quiet"), REFUSED, "needs liveupdate=on"),
            (kexec(m.next_kernel, "-r", "-a", "kho=off"), REFUSED, "has kho=off"),
            (("kexec", "-r", "-k", "/nowhere"), FAILED, "/nowhere: No such file"),
            (("kexec", "-r", "-k", "/nowhere", "-n"), FAILED, "/nowhere: No such file"),
            (("kexec", "-r", "-k", "/init", "-i", "/nowhere"), FAILED, "/nowhere: No such file"),
            (("kexec", "-r", "-k", "/init"), FAILED, "/init cannot be loaded: it is no kernel"),
            (("kexec", "-r", "-k", "/init", "-a", "x" * 4096), FAILED, "command line: Arg"),
    ):
        said = run(m, *words)
        assert said.code == code and what in said.err, said
        assert not loaded(m)
    said = run(m, *kexec(m.next_kernel, "-r", "-n"))
    assert said.code == OK and "Would load" in said.out and "nothing is preserved" in said.err
    assert m.command_line() in said.out
    plan, = ask(m, *kexec(m.next_kernel, "-r", "-n"))["plan"]
    assert plan == {"kernel": m.next_kernel.guest_image, "initrd": INITRD,
                    "cmdline": m.command_line(), "by": "reboot(2)"}
    assert not loaded(m)
    said = run(m, *kexec(m.next_kernel, "-a", "quiet", "-n", "--force"))
    assert said.code == OK and "needs liveupdate=on" in said.err
    m.sh("echo 1 >/proc/sys/kernel/kexec_load_disabled")
    said = run(m, *kexec(m.next_kernel, "-r"))
    assert said.code == REFUSED and "kexec_load_disabled" in said.err
    said = run(m, *kexec(m.next_kernel, "-r", "--force"))
    assert said.code == FAILED and "the kernel does not allow it" in said.err


def stand_in_for_systemd(m, command):
    """Make the machine one that systemd seems to run, with a command as its systemctl."""
    m.sh(f"mkdir -p /run/systemd/system; printf '#!/bin/sh\\n{command}\\n' >/bin/systemctl;"
         " chmod +x /bin/systemctl")


def test_by_systemd(small):
    """Where systemd runs, it is told to jump once the kernel is loaded."""
    m = small
    stand_in_for_systemd(m, "echo $* >/tmp/told")
    assert ask(m, *kexec(m.next_kernel, "-r", "-n"))["plan"][0]["by"] == "systemctl kexec"
    assert not loaded(m)
    assert run(m, *kexec(m.next_kernel, "-r")).code == OK
    assert loaded(m) and m.sh("cat /tmp/told") == "kexec"
    m.sh("rm /bin/systemctl")
    said = run(m, *kexec(m.next_kernel, "-r"))
    assert said.code == FAILED and "systemctl: No such file" in said.err


def test_old_systemd(small):
    """A systemd that takes no sessions along is not told to jump while something is preserved."""
    m = small
    owner = Owner(m)

    def dry_run(version):
        stand_in_for_systemd(m, f"[ $1 != show ] || echo Version={version}")
        return run(m, *kexec(m.next_kernel, "-r", "-n"))

    assert dry_run("257.9-1").code == OK
    owner.own("nvme0")
    owner.preserve("nvme0")
    said = dry_run("257.9-1")
    assert said.code == REFUSED and "systemd 257 takes no sessions along" in said.err
    # Where it does not say, nothing is known.
    for version in ("261~rc1-1", "262.1", ""):
        assert dry_run(version).code == OK


@pytest.mark.thorough
@pytest.mark.only("modules")
def test_disk_that_does_not_answer(start):
    """A disk that does not answer stops kexec before all else; a slow one is waited for."""
    m = start(topology=(*SMALL, Port(Disk("data"))))
    m.sh(f"echo {REQUEST >> 10} >/sys/block/vda/queue/max_sectors_kb;"
         " mount -t ext4 /dev/vda /mnt; sync")
    m.throttle_writes("data", 1)
    m.sh(f"dd if=/dev/zero of=/mnt/file bs={REQUEST} count={REQUESTS} 2>&1")
    command = kexec(m.next_kernel, "-r")
    said = run(m, *command, timeout=8 * PATIENCE)
    assert said.code == REFUSED and "nothing was done; --force" in said.err and not loaded(m)
    assert f"in {PATIENCE} s there was no answer from vda\n" in said.err
    m.throttle_writes("data", REQUEST)
    m.kexec_by(f"vfio-liveupdate {' '.join(command)}", timeout=8 * PATIENCE)
    assert m.marks["jump"] - m.marks["freeze"] > PATIENCE + 10
    # All was written before the jump.
    assert int(m.sh("mount -t ext4 /dev/vda /mnt; stat -c %s /mnt/file")) == REQUESTS * REQUEST


def test_without_root(small):
    """Who is not root gets what everybody may know, and is told what needs root."""
    m = small
    owner = Owner(m)
    bdf, = owner.own("nvme0")
    owner.preserve("nvme0")
    assert run(m, "list", user=USER).out == run(m, "list").out
    assert run(m, "check", user=USER).code == OK
    said = run(m, "status", user=USER)
    assert said.code == NEEDS_ROOT and "root only" in said.err and bdf in said.out
    said = run(m, "status", "--json", user=USER)
    assert "sessions" not in said.json("status")
    said = run(m, *kexec(m.next_kernel, "-r"), user=USER)
    assert said.code == NEEDS_ROOT and "needs root" in said.err and not loaded(m)


@pytest.mark.thorough
def test_switched_off(start):
    """Without live update, without KHO, without an IOMMU: each has its message."""
    m = start(topology=SMALL, append="liveupdate=off")
    bdf = m.bdf("nvme0")
    assert summary(answers(m)[bdf])[:1] + summary(answers(m)[bdf])[3:] == (
        False, "off", "live update is off")
    assert advice(run(m, "check", "--json")) == {"live update": "boot with liveupdate=on"}
    said = run(m, "status")
    assert said.code == REFUSED and "boot with liveupdate=on" in said.err
    said = run(m, *kexec(m.next_kernel, "-r", "-n"))
    assert said.code == REFUSED and "boot with liveupdate=on" in said.err
    m.kexec(append="liveupdate=on kho=off")
    assert advice(run(m, "check", "--json")) == {"live update": "boot with kho=on",
                                                 "kexec handover": "boot with kho=on"}
    assert "boot with kho=on" in run(m, "status").err
    m.kexec(append="liveupdate=on kho=on intel_iommu=off")
    assert summary(answers(m)[bdf]) == (False, False, False, "no-iommu-group", "has no IOMMU group")
    assert "intel_iommu=on" in advice(run(m, "check", "--json"))["IOMMU"]
    assert "no live update sessions" in run(m, "status").out


@pytest.mark.thorough
@pytest.mark.only("modules")
@pytest.mark.parametrize("memory, parameter, wanted", [
    (None, "kho_scratch=64M,64M,8G", "kho_scratch=64M,64M,8G does not fit into this machine's mem"),
    ("112M", "", "this machine's memory has no room for the area '"),
])
def test_no_memory_for_handover(start, memory, parameter, wanted):
    """A machine that is too small for KHO, or for what its command line wants: check says which."""
    m = start(topology=SMALL, memory=memory, append=parameter)
    said = run(m, "check", "--json")
    assert advice(said)["kexec handover"].startswith(wanted)
    assert advice(said)["live update"].startswith(wanted)
    assert wanted in run(m, "status").err


@pytest.mark.thorough
@pytest.mark.only("modules")
def test_wrong_scratch(start):
    """What the kernel does not understand it passes over; what is nothing leaves room for none."""
    m = start(topology=SMALL, append="kho_scratch=64M")
    line = next(line for line in ask(m, "check")["checks"] if line["check"] == "kexec handover")
    assert line["result"] == "warning" and "kho_scratch=64M is not understood" in line["advice"]
    m = start("-nothing", topology=SMALL, append="kho_scratch=0%")
    assert "sets nothing aside" in advice(run(m, "check", "--json"))["kexec handover"]
    said = run(m, *kexec(m.next_kernel, "-r", "--force"))
    assert said.code == FAILED and "has to fit into what kho_scratch= sets aside" in said.err


@pytest.mark.thorough
def test_built_in(start):
    """With VFIO in the kernel itself nothing is missing either."""
    m = start(topology=SMALL, kernel="builtin", next_kernel="builtin")
    checks = {line["check"]: line["value"] for line in ask(m, "check")["checks"]}
    assert checks["vfio-pci"] == checks["iommufd"] == "there"


def test_reading_sessions(start):
    """The list of sessions is root's, survives odd names, and keeps nobody from /dev/liveupdate."""
    m = start(topology=SMALL)
    sessions = "/sys/kernel/debug/liveupdate/sessions"
    owner = Owner(m)
    owner.own("nvme0")
    owner.preserve("nvme0", session=r"a\b")
    assert m.sh(f"stat -c %a {sessions}") == "400"
    assert m.sh(f"cat {sessions}").splitlines()[0] == r"session outgoing open a\134b"
    m.kexec()
    assert m.sh(f"cat {sessions}").splitlines()[0] == r"session incoming waiting a\134b"
    reader = m.worker("reader")
    reader.start("sh", f"for i in $(seq 300); do cat {sessions} >/dev/null; done")
    owner.retrieve("nvme0", session=r"a\b")
    for _ in range(20):
        owner("session_create", "T", "more")
        owner("close", "T")
    owner.drive("nvme0")
    owner.finish()
    reader.wait()
    assert m.sh(f"cat {sessions}") == ""
