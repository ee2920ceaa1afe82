# SPDX-License-Identifier: GPL-2.0-only
"""The Debian packages: of the library and the tool, and of kernels."""

import fcntl
import shutil
import subprocess

import pytest

from lab import Disk, Port, paths
from lab.image import Kernel
from lab.running import RunningSet
from lab.system import own_disk
from test_systemd import RATE, SERVICE, end, see_settled
from update import PAIR, see_undisturbed, states

# Where the machine has the packages, and how long dpkg or GRUB may take in it
PACKAGES = "/mnt"
PATIENCE = 900
# Of any machine of the lab, and of docs/operating.md
CONSOLE = "console=ttyS0 no_timer_check panic=-1"
PARAMETERS = "liveupdate=on kho=on intel_iommu=on"
EXAMPLES = "/usr/share/doc/vfio-liveupdate/examples"


@pytest.fixture(autouse=True)
def alone():
    """Make packages in one test at a time: both use them where they are made."""
    with open(paths.BUILD / ".packages-tested.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*command):
    """Run one of the project's programs; returns what it said."""
    done = subprocess.run([paths.ROOT / command[0], *command[1:]], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.thorough
def test_packages():
    """They are built, lintian finds no error, and a Debian 13 with nothing else takes them."""
    said = run("packaging/deb")
    assert sum(line.endswith(".deb") for line in said.splitlines()) >= 3
    assert "installed, used and removed" in run("packaging/try")


def install(m, *packages):
    """Install packages that the machine has on its second disk, as an operator does."""
    m.sh(f"mountpoint -q {PACKAGES} || mount -r /dev/vdb {PACKAGES}")
    return m.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y "
                + " ".join(f"{PACKAGES}/{name}_*.deb" for name in packages) + " 2>&1",
                timeout=PATIENCE)


def set_up(m, kernel):
    """Make the machine one that boots a kernel of ours from its disk, with the lab's agent."""
    install(m, f"linux-image-{kernel}", "vfio-liveupdate")
    settings = (f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {PARAMETERS}"', "GRUB_TIMEOUT=0",
                f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {CONSOLE}"',
                "GRUB_TERMINAL=serial", 'GRUB_SERIAL_COMMAND="serial --speed=115200"')
    m.sh("mkdir -p /etc/default/grub.d && printf '%s\\n' "
         + " ".join(f"'{setting}'" for setting in settings)
         + " >/etc/default/grub.d/liveupdate.cfg")
    m.sh("grub-install /dev/vda 2>&1 && update-grub 2>&1", timeout=PATIENCE)
    # What is the lab's own: the agent, and the service that owns devices
    m.sh("cp -a /run/lab/bin /usr/local/lab && rm /usr/local/lab/vfio-liveupdate &&"
         " cd /run/systemd/system && for unit in lab-agent.service lab-worker@.service; do"
         " sed s,/run/lab/bin,/usr/local/lab,g $unit >/etc/systemd/system/$unit; done;"
         " echo d /run/lab >/etc/tmpfiles.d/lab.conf")
    m.sh(f"mkdir -p /etc/systemd/system/{SERVICE}.service.d &&"
         f" cp {EXAMPLES}/liveupdate.conf /etc/systemd/system/{SERVICE}.service.d")
    m.sh(f"systemctl enable lab-agent {SERVICE} 2>&1; sync")


@pytest.mark.thorough
@pytest.mark.only("distro")
def test_on_disk(start, tmp_path):
    """A Debian on a disk boots a kernel out of its package, and is updated live into another.

    It begins with a kernel without our work.
    """
    kernels = run("kernel/build", "--deb", "distro", "distro-b").splitlines()
    made = [line for line in kernels + run("packaging/deb").splitlines() if line.endswith(".deb")]
    folder = tmp_path / "packages"
    folder.mkdir()
    for package in made:
        shutil.copy(package, folder)
    topology = (*PAIR, Port(Disk("packages", folder)))
    machine = {"system": True, "disk": own_disk(tmp_path / "disk.img"), "topology": topology}

    m = start("-install", kernel="stock", next_kernel="stock", **machine)
    see_settled(m)
    first = Kernel.named("distro").release
    set_up(m, first)
    m.close()

    m = start("-installed", kernel="distro", next_kernel="distro-b", bare=True, memory="4G",
              **machine)
    see_settled(m)
    assert m.sh("dpkg -S /boot/vmlinuz-$(uname -r)").startswith(f"linux-image-{first}:")
    second = m.next_kernel.release
    install(m, f"linux-image-{second}")
    owner = RunningSet(m, rate=RATE)
    owner.open("nvme0", "igb0")
    m.sh("vfio-liveupdate check --running")
    owner.start()
    owner.preserve()
    owner.store()
    m.kexec_by(f"vfio-liveupdate kexec --kernel /boot/vmlinuz-{second}"
               f" --initrd /boot/initrd.img-{second} --reuse-cmdline", timeout=PATIENCE)
    see_settled(m)
    assert m.sh("dpkg -S /boot/vmlinuz-$(uname -r)").startswith(f"linux-image-{second}:")
    assert states(owner) == {"incoming running"}
    owner.retrieve(stored=True)
    end(owner)
    see_undisturbed(owner)
