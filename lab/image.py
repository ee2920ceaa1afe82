# SPDX-License-Identifier: GPL-2.0-only
"""What a machine starts from: kernels, and an initramfs that serves both of an update.

The initramfs holds busybox, the guest program, the library's example, units for systemd, the tool
vfio-liveupdate with the libraries that it needs, and of every kernel that takes part its modules
and configuration (/lib/modules/RELEASE) and its image (/images/FLAVOUR/bzImage), so that the
incoming kernel can be given the very initramfs that the outgoing one was started with. More
files, by their names in /lab, are for machines that need them, such as what a virtual machine in
there is started from.
"""

import contextlib
import fcntl
import functools
import os
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import paths

BUSYBOX = Path("/bin/busybox")
INIT = Path(__file__).with_name("init")
UNITS = Path(__file__).with_name("units")
# What people copy for their services; the lab's workers have it, too.
LIVEUPDATE_CONF = paths.ROOT / "packaging" / "systemd" / "liveupdate.conf"
TOOL = "vfio-liveupdate"
LU_QEMU = paths.ROOT / "vmm" / "qemu"
PCI_IDS = Path("/usr/share/misc/pci.ids")
FOLDERS = ("bin", "dev", "etc", "images", "lib", "lib/modules", "mnt", "proc", "run", "sbin",
           "sys", "tmp", "usr", "usr/bin", "usr/sbin", "usr/share", "usr/share/misc")


class ImageError(Exception):
    """Something that a machine starts from is missing."""


class Cpio:
    """An archive in the format that Linux unpacks as its first file system (cpio "newc")."""

    def __init__(self):
        """Begin an empty archive."""
        self._parts = []
        self._inode = 0

    def _add(self, name, mode, data=b"", device=(0, 0)):
        """Add an entry."""
        self._inode += 1
        path = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self._parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def folder(self, name):
        """Add a folder."""
        self._add(name, stat.S_IFDIR | 0o755)

    def link(self, name, target):
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor):
        """Add a character device."""
        self._add(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def file(self, name, source, executable=False):
        """Add a file with the content of another."""
        self._add(name, stat.S_IFREG | (0o755 if executable else 0o644),
                  Path(source).read_bytes())

    def tree(self, name, source):
        """Add a folder with all that is in another; links out of it are left out."""
        self.folder(name)
        for entry in sorted(Path(source).iterdir()):
            if entry.is_symlink():
                continue
            if entry.is_dir():
                self.tree(f"{name}/{entry.name}", entry)
            else:
                self.file(f"{name}/{entry.name}", entry)

    def data(self):
        """Return the finished archive."""
        self._add("TRAILER!!!", 0)
        return b"".join(self._parts)


@dataclass(frozen=True)
class Kernel:
    """A kernel that was built for the lab: its flavour, and what uname -r will say.

    The flavour is as kernel/build takes it: "7.2-lab-a" where Linux is not 7.3.
    """

    flavour: str
    release: str

    @classmethod
    def named(cls, flavour):
        """Return the kernel of a flavour; raises ImageError when it is not built."""
        release = paths.IMAGES / flavour / "release"
        if not release.exists():
            raise ImageError(f"there is no kernel {flavour}: run kernel/build {flavour}")
        return cls(flavour, release.read_text().strip())

    @property
    def folder(self):
        """The folder of its build."""
        return paths.IMAGES / self.flavour

    @property
    def image(self):
        """Its boot image."""
        return self.folder / "bzImage"

    @property
    def modules(self):
        """The folder of its modules, or None when it has none."""
        modules = self.folder / "modules" / "lib" / "modules" / self.release
        return modules if modules.is_dir() else None

    @property
    def guest_image(self):
        """Path of its boot image inside the machine."""
        return f"/images/{self.flavour}/bzImage"

    @property
    def signed(self):
        """Its boot image, signed by the key that it trusts; of kernels that look at signatures."""
        return self.folder / "bzImage.signed"

    @property
    def key(self):
        """That key and its certificate."""
        return paths.BUILD / "kernel" / self.flavour / "certs" / "signing_key.pem"

    def symbol(self, name):
        """Return the address of a function or variable."""
        for line in (self.folder / "System.map").read_text().splitlines():
            address, _, symbol = line.split()
            if symbol == name:
                return int(address, 16)
        raise KeyError(name)

    def place(self, address):
        """Say where an address is: in which function, or just the address.

        Where a kernel that moves (KASLR) is, only its panic tells: "Kernel Offset".
        """
        found = None
        if self.has("RANDOMIZE_BASE"):
            return f"{address:#x}"
        for line in (self.folder / "System.map").read_text().splitlines():
            start, kind, symbol = line.split()
            start = int(start, 16)
            if kind in "tTwW" and start <= address and (not found or start >= found[0]):
                found = start, symbol
        if not found or address >= self.symbol("_einittext"):
            return f"{address:#x}"
        return f"{found[1]}+{address - found[0]:#x}"

    def has(self, option):
        """Tell whether its configuration has an option, like "KASAN", set to y or m."""
        lines = (self.folder / "config").read_text().splitlines()
        return f"CONFIG_{option}=y" in lines or f"CONFIG_{option}=m" in lines

    def modular(self, drivers):
        """Return those drivers, given as module names by option, that it has as modules."""
        lines = (self.folder / "config").read_text().splitlines()
        return [name for option, name in drivers.items() if f"CONFIG_{option}=m" in lines]

    def module_files(self, names):
        """Return the files of some modules and of those that they need, in the order to load."""
        files = {}
        lines = (self.modules / "modules.dep").read_text().splitlines() if names else []
        for path, below in (line.split(":") for line in lines):
            if Path(path).stem.replace("-", "_") in names:
                files.update(dict.fromkeys([*reversed(below.split()), path]))
        return [self.modules / path for path in files]


def run(*command, **environment):
    """Run a command that must not fail, raises ImageError if it does; returns what it said."""
    made = subprocess.run([str(word) for word in command], env={**os.environ, **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          stdin=subprocess.DEVNULL, check=False)
    if made.returncode:
        raise ImageError(f"{' '.join(map(str, command))}:\n{made.stdout}")
    return made.stdout


@contextlib.contextmanager
def building(out):
    """Make a folder to build in, that nobody else builds in meanwhile."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def meson(source, out, *options, **environment):
    """Build a folder of the repository with meson, as far as it is not built so; return where."""
    with building(out):
        again = ["--reconfigure"] if (out / "build.ninja").exists() else []
        run("meson", "setup", *again, out, paths.ROOT / source, *options, **environment)
        run("ninja", "-C", out)
    return out


@functools.lru_cache(maxsize=None)
def guest_program():
    """Build the guest program, and those beside it; return its path."""
    out = paths.BUILD / "guest"
    with building(out):
        run("make", "-s", "-C", paths.ROOT / "tests" / "guest", f"OUT={out}",
            f"HEADERS={paths.BUILD / 'headers'}")
    return out / "guest"


@functools.lru_cache(maxsize=None)
def tool_program():
    """Build the tool vfio-liveupdate and return its path."""
    return meson("tool", paths.BUILD / "tool") / TOOL


def _add_tool(archive):
    """Add the tool, the shared libraries that it needs, and the names of PCI devices."""
    tool = tool_program()
    libraries = re.findall(r"(/\S+) \(0x", run("ldd", tool))
    for folder in sorted({str(Path(path).parent)[1:] for path in libraries} - set(FOLDERS)):
        archive.folder(folder)
    for path in libraries:
        archive.file(path[1:], path, executable=True)
    archive.file(f"usr/sbin/{TOOL}", tool, executable=True)
    archive.file(str(PCI_IDS)[1:], PCI_IDS)


def _add_busybox(archive):
    """Add busybox under the name of each of its commands."""
    archive.file("bin/busybox", BUSYBOX, executable=True)
    names = subprocess.run([BUSYBOX, "--list-full"], stdout=subprocess.PIPE, text=True, check=True)
    for name in names.stdout.split():
        if name.split("/")[0] in ("bin", "sbin", "usr") and name != "bin/busybox":
            archive.link(name, "/bin/busybox")


def replace(path, data):
    """Write a file as a whole; one of that content that is already there is left as it is."""
    if not path.exists() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_bytes(data)
        new.replace(path)
    return path


def initramfs(kernels, more=None):
    """Make the initramfs for some kernels, with more files in /lab, and return its path.

    Of these the ones in bin are programs.
    """
    if not BUSYBOX.exists():
        raise ImageError("busybox is missing: install the package busybox-static")
    archive = Cpio()
    for folder in FOLDERS:
        archive.folder(folder)
    archive.device("dev/console", 5, 1)
    _add_busybox(archive)
    archive.file("init", INIT, executable=True)
    for name in ("guest", "guest-systemd", "example"):
        archive.file(f"bin/{name}", guest_program().with_name(name), executable=True)
    archive.tree("units", UNITS)
    archive.file("units/liveupdate.conf", LIVEUPDATE_CONF)
    _add_tool(archive)
    for kernel in kernels:
        archive.folder(f"images/{kernel.flavour}")
        archive.file(f"images/{kernel.flavour}/bzImage", kernel.image)
        if kernel.modules:
            archive.tree(f"lib/modules/{kernel.release}", kernel.modules)
            archive.file(f"lib/modules/{kernel.release}/config", kernel.folder / "config")
    for folder in ("lab", "lab/bin") if more else ():
        archive.folder(folder)
    for name, source in (more or {}).items():
        archive.file(f"lab/{name}", source, executable=name.startswith("bin/"))
    name = "+".join([k.flavour for k in kernels] + ["more"] * bool(more))
    return replace(paths.LAB / f"initramfs-{name}.cpio", archive.data())


def inner_initramfs(kernel, drivers):
    """Make the initramfs of a virtual machine in a machine, and return its path.

    It has the program tests/guest/inner.c, and of the drivers, given as module names by option,
    those that the kernel has as modules.
    """
    archive = Cpio()
    for folder in ("dev", "modules", "proc", "sys"):
        archive.folder(folder)
    archive.device("dev/console", 5, 1)
    archive.file("init", guest_program().with_name("inner"), executable=True)
    for number, file in enumerate(kernel.module_files(kernel.modular(drivers))):
        archive.file(f"modules/{number:02}-{file.name}", file)
    return replace(paths.LAB / f"inner-{kernel.flavour}.cpio", archive.data())


def lu_qemu(out, *options):
    """Build lu-qemu in a folder, with the library in it; returns the folder."""
    library = meson("lib", paths.BUILD / "lib" / "static", "-Ddefault_library=static",
                    f"-Dheaders={paths.BUILD / 'headers' / 'include'}", "-Dsystemd=enabled")
    return meson("vmm/qemu", out, "-Dstatic_library=true", *options,
                 PKG_CONFIG_PATH=str(library / "meson-uninstalled"))


@functools.lru_cache(maxsize=None)
def lu_qemu_program():
    """Build lu-qemu and return its path."""
    return lu_qemu(paths.BUILD / "lu-qemu") / "lu-qemu"


def inner_files(kernel, drivers):
    """Return what a machine with a virtual machine in it needs, beside that one's kernel."""
    return {"inner.cpio": inner_initramfs(kernel, drivers), "bin/lu-qemu": lu_qemu_program(),
            "bin/lu-qemu-kexec": LU_QEMU / "kexec.d",
            "lu-qemu@.service": LU_QEMU / "lu-qemu@.service"}
