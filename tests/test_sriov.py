# SPDX-License-Identifier: GPL-2.0-only
"""Virtual functions (SR-IOV) with programs in user space, beside their physical one.

That belongs to a program, too, or it is the host's network.
"""

import re

import pytest

from lab import Igb, Nvme, Port, Switch, paths
from lab.image import run
from lab.machine import ENABLE_SRIOV
from lab.running import SEED, VF_TOKEN, Guests, HostNetwork, Running
from update import see_dma, see_no_faults, see_nothing_lost, see_undisturbed

CONTROLLER = (Port(Igb("igb0")),)
DRIVE = (Port(Nvme("nvme0", vfs=2)),)
OTHER_TOKEN = VF_TOKEN.replace("6", "7")
# Linux's own test of tokens
SELFTEST = "vfio_pci_sriov_uapi_test"
SELFTESTS = paths.BUILD / "linux-7.3" / "tools" / "testing" / "selftests" / "vfio"


def with_vfs(name, count):
    """Return the names of a device and of its virtual functions."""
    return name, *(f"{name}vf{number}" for number in range(count))


def work(m, owner, seconds=3):
    """Let an owner's devices work for some seconds, and see that they do so all the time."""
    m.mark("working")
    m.sh(f"sleep {seconds}")
    m.mark("worked")
    accounts = owner.settle()
    see_nothing_lost(accounts)
    see_no_faults(owner)
    see_undisturbed(owner, "working", "worked")
    see_dma(owner, "working", "worked")
    return accounts


@pytest.mark.thorough
@pytest.mark.parametrize("count", [1, 7])
def test_controller(start, count):
    """Each function of a controller has the frames that are sent to it, and no others."""
    m = start(topology=CONTROLLER)
    owner = Running(m)
    owner.open(*with_vfs("igb0", count))
    owner.start()
    assert m.vfs("igb0") == count
    assert len({device.bdf for device in owner.devices.values()}) == count + 1
    assert len(work(m, owner)) == count + 1
    for number, device in enumerate(owner.devices.values()):
        owner.worker.start("igb_tx", device.driver, 100 * number, 10)
        assert m.wires["igb0"].receive(10) == list(range(100 * number, 100 * number + 10))
        owner.worker.wait()


@pytest.mark.thorough
def test_drive(start):
    """Each function of a drive does what it is told to, and has a namespace for itself."""
    m = start(topology=DRIVE)
    owner = Running(m)
    names = with_vfs("nvme0", 2)
    owner.open(*names)
    owner.start()
    work(m, owner)
    for seed, device in enumerate(owner.devices.values()):
        owner("nvme_write", device.driver, 0, 64, seed)
    for seed, device in enumerate(owner.devices.values()):
        owner("nvme_read_check", device.driver, 0, 64, seed)
        assert owner.fails("nvme_read_check", device.driver, 0, 64, seed + 1) == "EILSEQ"


@pytest.mark.thorough
def test_below_a_switch(start):
    """Two devices with virtual functions share a switch, and for want of ACS one page table."""
    m = start(topology=(Port(Switch("switch", Igb("igb0"), Nvme("nvme0", vfs=2))),))
    owner = Running(m)
    owner.open(*with_vfs("igb0", 2), *with_vfs("nvme0", 2), shared=True)
    owner.start()
    work(m, owner)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["igb0", "nvme0"])
def test_interrupts(start, name):
    """Each function raises interrupts, by which its user is woken when there is something."""
    m = start(topology=CONTROLLER + DRIVE)
    owner = Running(m, interrupts=True)
    owner.open(*with_vfs(name, 2))
    owner.start()
    for device in owner.devices.values() if name == "igb0" else ():
        until = owner.account(device)["next"] + 10
        assert owner.worker.account("igb_rx_account", device.driver, until, 5000)["next"] >= until
    work(m, owner)
    for device in owner.devices.values() if name == "nvme0" else ():
        owner("nvme_sleep", device.driver, 64, SEED, 10)


def take_from(heir, owner):
    """Let a process have all that another has, which dies, and go on with the devices' drivers."""
    names = [name for device in owner.devices.values() for name in (device.file, device.memory)]
    for name in ("I", *names):
        heir("steal", name, owner.worker.pid(), owner.worker.fd(name))
    owner.worker.kill()
    heir.devices = owner.devices
    heir.adopt()


@pytest.mark.thorough
def test_tokens(start):
    """Who opens a virtual function, or its physical one beside it, needs the token."""
    m = start(topology=CONTROLLER)
    owner, tenant, other = Running(m), Running(m, "tenant"), m.worker("other")
    m.vfs("igb0", 2)
    owner.open("igb0")
    other("iommufd", "I")
    other("vfio_open", "D", m.bdf("igb0vf0"))
    for token in [], [OTHER_TOKEN]:
        assert other.fails("vfio_bind", "D", "I", *token) == "EACCES"
    assert other.fails("vfio_bind", "D", "I", VF_TOKEN[:-1]) == "EINVAL"
    m.wait_console(f"{m.bdf('igb0vf0')}: VF token required", timeout=1)
    m.wait_console(f"{m.bdf('igb0vf0')}: Incorrect VF token", timeout=1)
    tenant.open("igb0vf0")
    # With one of them in use, the physical function needs it, too.
    owner("close", owner.devices["igb0"].file)
    other("vfio_open", "P", m.bdf("igb0"))
    for token in [], [OTHER_TOKEN]:
        assert other.fails("vfio_bind", "P", "I", *token) == "EACCES"
    other("vfio_bind", "P", "I", VF_TOKEN)
    # Who has it may choose another.
    other("vfio_token", "P", OTHER_TOKEN)
    other("vfio_open", "E", m.bdf("igb0vf1"))
    assert other.fails("vfio_bind", "E", "I", VF_TOKEN) == "EACCES"
    other("vfio_bind", "E", "I", OTHER_TOKEN)


@pytest.mark.thorough
def test_tenants(start):
    """Virtual functions of other processes work on while that of the physical one is another."""
    m = start(topology=CONTROLLER)
    owner, heir = Running(m, "host"), Running(m, "heir")
    tenants = [Running(m, f"tenant{number}", first=1 + number, host=owner) for number in range(2)]
    m.vfs("igb0", 2)
    owner.open("igb0")
    owner.start()
    for number, tenant in enumerate(tenants):
        tenant.open(f"igb0vf{number}")
        tenant.start()
    take_from(heir, owner)
    for tenant in tenants:
        work(m, tenant, 2)
    work(m, heir, 2)
    # A virtual function that was reset begins anew, and by leave of the one who governs it now.
    tenant, device = tenants[0], tenants[0].devices["igb0vf0"]
    tenant("vfio_reset", device.file)
    tenant("close", device.driver)
    tenant("igbvf_start", device.driver, device.file, device.memory, device.iova)
    m.wires["igb0"].send(device.first_frame, 10, to=device.address)
    assert tenant.account(device)["good"] == 0
    heir("igb_admit", heir.devices["igb0"].driver, device.virtual)
    tenant.work()
    work(m, tenant, 2)


@pytest.mark.thorough
def test_beside_the_host(start):
    """Virtual functions work, and their physical one is the host's network: each has its frames."""
    m = start(topology=CONTROLLER)
    host = HostNetwork(m, "igb0", 2)
    owner = Guests(m)
    owner.open("igb0vf0", "igb0vf1")
    owner.start()
    host.work()
    assert len(work(m, owner)) == 2
    assert host.settle() == 0
    host.send(50, 10)
    # Asked again, its driver knows the address that a virtual function has.
    for device in owner.devices.values():
        assert owner.begin(device) == device.address.hex(":")


def build_selftest(folder):
    """Build Linux's own test in a folder, and leave its source as it is; returns the program."""
    run("make", "-s", "-C", SELFTESTS, f"OUTPUT={folder}", "EXTRA_CFLAGS=-static",
        f"KHDR_INCLUDES=-isystem {paths.BUILD / 'headers' / 'include'}", folder / SELFTEST)
    return folder / SELFTEST


@pytest.mark.thorough
def test_selftest(start, tmp_path):
    """Linux's own test of tokens passes: by groups and containers, by iommufd, and by both."""
    program = build_selftest(tmp_path)
    m = start(topology=(*CONTROLLER, Port(Nvme("program", content=program))))
    copy = f"/tmp/{SELFTEST}"
    m.sh("for i in $(seq 50); do [ -e /dev/nvme0n1 ] && break; sleep 0.1; done;"
         f"head -c {program.stat().st_size} /dev/nvme0n1 >{copy} && chmod +x {copy}")
    bdf = m.bdf("igb0")
    m.bind_vfio(bdf)
    m.sh(f"echo 1 >{ENABLE_SRIOV}")
    said = m.sh(f"{copy} {bdf} 2>&1; echo exit code $?")
    results = re.findall(r"^(ok|not ok) \d+ (.*)$", said, re.MULTILINE)
    assert results and re.findall(r"^1\.\.(\d+)$", said, re.MULTILINE) == [str(len(results))], said
    assert not [name for result, name in results if result != "ok"], said
    assert not [name for _, name in results if "SKIP" in name], said
    assert said.endswith("exit code 0"), said
    # It has taken back the virtual function that it made.
    assert m.vfs("igb0") == 0
