# SPDX-License-Identifier: GPL-2.0-only
"""Owners who are not friendly: none can hang an update, or make others pay for his refusal."""

import time

import pytest

from conftest import IOVA
from lab import GuestError, Nvme, Port, pci
from lab.running import IOMMUFD_TOKEN, Running
from update import PAIR, Owner, at_work, see_good_update, see_jump_refused, take_over

# Seconds in which an order to jump has to be refused, whatever a user does: the longest wait of the
# kernel is 5 s, and a busy host takes its time.
BOUND = 12

# As the kernel prints it, with names of errors and without.
EBUSY = r"\((-EBUSY|-16)\)"

# igb's I/O ports: a register's number, and its value (82576 datasheet, 8.1.1.4).
IO_BAR, IOADDR, IODATA = 2, 0, 4
STATISTICS = 0x4000


def hang(owner, *words):
    """Let a process begin a call that does not end, as object X; returns when it hangs (mark)."""
    owner("fork", "X", *words)
    owner.machine.sh("sleep 0.3")
    owner.machine.mark("hangs")


def refused_in_time(m, errno):
    """See that an order to jump is refused, and how soon."""
    m.kexec_load()
    began = time.time()
    with pytest.raises(GuestError) as error:
        m.kexec_go(timeout=BOUND)
    assert error.value.errno == errno
    return time.time() - began


def refuses_in_time(owner, errno, *words):
    """See that a call is refused, and soon."""
    assert owner.fails(*words, timeout=BOUND) == errno


def two_tenants(start):
    """Start a machine with two owners, who have preserved a drive and a network controller.

    Returns it, the owners and the devices' addresses.
    """
    m = start(topology=PAIR)
    owner, other = Owner(m), Owner(m, "other")
    first, = owner.own("nvme0")
    owner.drive("nvme0")
    owner.write("nvme0")
    second, = other.own("igb0")
    owner.preserve("nvme0")
    other.preserve("igb0", session="other")
    return m, owner, other, first, second


def see_spared(m, *bdfs):
    """See that nobody paid for the order to jump that was refused: no device was reset."""
    for bdf in bdfs:
        assert not m.resets(bdf, m.config(bdf), "freeze")
        assert not m.command_writes(bdf, "freeze")


def test_bind_that_hangs(start):
    """Who opens a preserved device again and never ends its BIND holds nobody up for long."""
    m, owner, _, first, second = two_tenants(start)
    hang(owner, "hang_bind", first, "I")
    refused_in_time(m, "EBUSY")
    m.wait_console(rf"{first}: Freeze failed! .*device set.* {EBUSY}", "hangs", timeout=1)
    see_spared(m, first, second)
    # A device of the same set cannot be preserved or given back meanwhile, and says so in time.
    owner("close", "S")
    owner("session_create", "S", "again")
    owner("close", "X")
    owner("preserve", "S", 1, "Dnvme0")
    m.kexec()
    owner.retrieve("nvme0", session="again")
    owner.works("nvme0")


def test_call_that_hangs(start):
    """A device whose user's call does not end is refused before any other is touched."""
    m, owner, other, first, second = two_tenants(start)
    hang(other, "hang_read", "Digb0", 0)
    owner.worker.start("cfg_poll", "Dnvme0", 6000)
    refused_in_time(m, "EBUSY")
    # A call for the other device waited meanwhile, and did not fail.
    assert int(owner.worker.wait(timeout=4 * BOUND)) > 1000
    m.wait_console(f"{second}: Freeze failed! A call of its user does not end", "hangs", timeout=1)
    see_spared(m, first)
    owner.check("nvme0")
    other("close", "X")
    m.kexec()
    owner.retrieve("nvme0")
    other.retrieve("igb0", session="other")
    owner.works("nvme0")
    other.works("igb0")


def test_map_that_hangs(start):
    """An iommufd in which mapping does not end is not preserved, and reboot(2) is not held up."""
    m, owner = at_work(start, "nvme0")
    hang(owner, "hang_map", "I", "A", IOVA >> 1)
    owner.preserve(iommufd=False, devices=False)
    refuses_in_time(owner, "EBUSY", "preserve", "S", IOMMUFD_TOKEN, "I")
    m.wait_console(rf"iommufd: live update: page table .* cannot be preserved: .*does not end"
                   rf".* {EBUSY}", "hangs", timeout=1)
    owner("close", "X")
    owner("close", "S")
    owner.preserve()
    m.kexec()
    take_over(owner)
    see_good_update(owner)


def test_write_that_hangs(small):
    """A memfd to which a write does not end is not preserved, and reboot(2) is not held up."""
    m, owner = small, Owner(small)
    owner("memfd", "M", "64k")
    hang(owner, "hang_write", "M")
    owner("session_create", "S", "test")
    refuses_in_time(owner, "EBUSY", "preserve", "S", 1, "M")
    m.wait_console(rf"memfd cannot be preserved: .*does not end.* {EBUSY}", "hangs", timeout=1)
    owner("close", "X")
    owner("preserve", "S", 1, "M")
    hang(owner, "hang_write", "M")
    m.kexec()
    owner("session_retrieve", "S", "test")
    owner("retrieve", "S", 1, "M")


def test_answer_that_nobody_takes(small):
    """A process that does not let the kernel answer does not hold up reboot(2)."""
    m, owner = small, Owner(small)
    owner("session_create", "S", "test")
    hang(owner, "hang_name", "S")
    m.kexec()


def test_closing_that_hangs(small):
    """A session whose closing does not end refuses an update in time, with the process's name."""
    m, owner, writer = small, Owner(small), Owner(small, "writer")
    writer("memfd", "M", "64k")
    owner("steal", "M", writer.worker.pid(), writer.worker.fd("M"))
    owner("session_create", "S", "test")
    owner("preserve", "S", 1, "M")
    hang(writer, "hang_write", "M")
    owner.worker.start("close", "S")
    m.sh("sleep 0.3")
    refused_in_time(m, "EBUSY")
    m.wait_console(rf"Freeze failed! \w+\[\d+\] is at work in session \[test\].* {EBUSY}",
                   "hangs", timeout=1)
    writer("close", "X")
    owner.worker.wait()
    m.kexec()


def test_ioeventfd_of_a_port(start):
    """An eventfd that makes the kernel write to an I/O port does so no more after freeze."""
    m = start(topology=PAIR)
    owner = Owner(m)
    bdf, = owner.own("igb0")
    clean = m.config(bdf)
    owner("bar_write", "Digb0", IO_BAR, IOADDR, 4, STATISTICS)
    owner("vfio_ioeventfd", "E", "Digb0", IO_BAR, IODATA, 4, 0x5a)
    hang(owner, "event_hammer", "E")
    owner.preserve("igb0")
    m.kexec()
    reset, = m.resets(bdf, clean, "freeze", "kernel")
    assert m.trace("e1000e_io_write_data", None, "freeze", reset.time)
    assert not m.trace("e1000e_io_write_data", None, reset.time)
    owner.take_over("igb0")


def test_marked_and_not_preserved(start):
    """A device whose marked page table does not go along is refused: it is expected to run."""
    m, owner = at_work(start, "nvme0")
    drive = owner.devices["nvme0"]
    owner.preserve(iommufd=False, devices=False)
    m.mark("refusal")
    assert owner.fails("preserve", "S", drive.tokens[0], drive.file) == "ENOENT"
    m.wait_console(f"{drive.bdf}: live update: cannot be preserved: .*marked", "refusal", timeout=1)
    owner("preserve", "S", IOMMUFD_TOKEN, "I")
    owner("preserve", "S", drive.tokens[0], drive.file)
    m.kexec()
    take_over(owner)
    see_good_update(owner)


def test_spoiled_bar_costs_nobody(start):
    """A page table that is spoiled is refused before an idle device of somebody else is reset."""
    m = start(topology=(*PAIR, Port(Nvme("nvme1"))))
    idle = Owner(m, "idle")
    bdf, = idle.own("nvme1")
    idle.preserve("nvme1", session="idle")
    owner = Running(m)
    owner.open("nvme0", "igb0")
    owner.start()
    owner("dmabuf_export", "Digb0", "B", 0, STATISTICS, 4096)
    owner("ioas_map_file", "I", "A", "B", 0, 4096, IOVA >> 1)
    owner.preserve()
    owner("cfg_write", "Digb0", pci.COMMAND, 2, 0)
    m.kexec_load()
    see_jump_refused(m, "EINVAL")
    m.wait_console("Freeze failed! Page table .*: a BAR that it maps was taken away", "freeze",
                   timeout=1)
    see_spared(m, bdf)
