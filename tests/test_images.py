# SPDX-License-Identifier: GPL-2.0-only
"""Kernels say in their image what they take over, and running devices go into no other."""

import re

import pytest

import bzimage
from lab import SMALL
from update import (ANY_IMAGE, SESSION, Owner, allow_any_image, at_work, see_good_update,
                    see_jump_refused, see_nothing_lost, see_undisturbed, state, states, take_over)

NEEDS = ("kho-v4", "luo-v5", "memfd-v2", "memfd-hold-v1", "pci-v3", "vfio-pci-v4", "iommu-v3",
         "iommufd-v1")
# All that an image has: a device does not need what its memory is not of.
DECLARES = (*NEEDS, "hugetlb-memfd-v1")
TAINT_USER = 1 << 6
SESSIONS = "/sys/kernel/debug/liveupdate/sessions"
# Some memory that nothing is loaded to.
NOWHERE = 0x10000000


def takes(kernel):
    """Return what a kernel's image declares."""
    return bzimage.Declaration.of(kernel.image.read_bytes()).versions


def refuses(m, missing, has, load=None, image=None):
    """See that the kernel refuses to jump, by one line that says why, and freezes nothing."""
    m.mark("refusal")
    (load or (lambda: m.kexec_load(image=image)))()
    see_jump_refused(m, "ENOEXEC")
    m.wait_console(r"luo: Freeze failed!", "refusal", timeout=5)
    lines = [line for line in m.console_text("refusal").splitlines()
             if re.search("luo: |Freeze failed|frozen", line)]
    warned = [line for line in lines if "cannot be read" in line]
    line, = [line for line in lines if line not in warned]
    said = re.search(r"does not take (.*)\. Preserved files need (.*); it takes (.*) "
                     r"\((?:-ENOEXEC|-8)\)", line)
    assert set(said[1].split()) == set(missing)
    assert set(said[2].split()) == set(NEEDS)
    assert set(said[3].split()) == set(has or ["nothing"])
    return bool(warned)


def see_as_before(owner):
    """See that a refusal changed nothing, and that a good image can be jumped into at once."""
    assert states(owner) == {"outgoing running"}
    owner.machine.mark("refused")
    see_undisturbed(owner, "load", "refused")
    owner.machine.kexec()
    take_over(owner)
    see_good_update(owner)


def test_declaration(start):
    """An image declares what is configured; what runs says that it needs all of it."""
    m, owner = at_work(start, "nvme0")
    assert set(takes(m.next_kernel)) == set(DECLARES)
    owner.preserve()
    needs = [line for line in m.sh(f"cat {SESSIONS}").splitlines() if line.startswith("needs ")]
    assert [set(line.split()[1:]) for line in needs] == [set(NEEDS)]


@pytest.mark.thorough
def test_raised_version(start):
    """A kernel with another version of one contract is refused, for what it lacks."""
    m, owner = at_work(start, "nvme0", "igb0")
    owner.preserve()
    has = [version for version in DECLARES if version != "pci-v3"] + ["pci-v9"]
    image = bzimage.spoil(m, bzimage.raised("pci-v3"))
    assert not refuses(m, ["pci-v3"], has, image=image)
    see_as_before(owner)


@pytest.mark.parametrize(("edit", "unreadable"), [
    (bzimage.too_long, True),
    *(pytest.param(*case, marks=pytest.mark.thorough) for case in (
        (bzimage.removed, False), (bzimage.renamed, False), (bzimage.too_short, True),
        (bzimage.unended, True))),
], ids=lambda value: getattr(value, "__name__", ""))
def test_no_declaration(start, edit, unreadable):
    """A kernel that declares nothing that can be read is refused, for all of it."""
    m, owner = at_work(start, "nvme0")
    owner.preserve()
    assert refuses(m, NEEDS, [], image=bzimage.spoil(m, edit)) == unreadable
    see_as_before(owner)


def test_kexec_load(start):
    """What the older system call loads declares nothing."""
    m, owner = at_work(start, "nvme0")
    owner.preserve()
    load = ("kexec_load_old", NOWHERE)
    refuses(m, NEEDS, [], load=lambda: m.worker("kexec")(*load))
    see_as_before(owner)


def test_idle_goes_anywhere(start):
    """A device in idle mode needs nothing, nor does a memfd; what is not taken stays behind."""
    m = start(topology=SMALL)
    owner = Owner(m)
    owner.own("nvme0")
    owner.drive("nvme0")
    owner.write("nvme0")
    owner.preserve("nvme0")
    owner("preserve", "S", 7, "Mnvme0")
    assert "needs" not in m.sh(f"cat {SESSIONS}")
    m.kexec_load(image=bzimage.spoil(m, bzimage.raised("vfio-pci-v4")))
    m.kexec_go()
    # It would take vfio-pci-v4 in truth: but got nothing of the device, not even of the PCI core.
    assert state(m, m.bdf("nvme0")) == "none"
    owner("session_retrieve", "S", SESSION)
    assert owner.fails("retrieve", "S", 1, "Dnvme0") == "ENOENT"
    owner("retrieve", "S", 7, "Mnvme0")
    owner.finish()
    owner("close", "Mnvme0")
    owner.own("nvme0")
    owner.works("nvme0")


@pytest.mark.thorough
def test_override(start):
    """Developers can have it otherwise: loudly, and the kernel is tainted."""
    m, owner = at_work(start, "nvme0")
    owner.preserve()
    image = bzimage.spoil(m, bzimage.removed)
    refuses(m, NEEDS, [], image=image)
    assert not int(m.sh("cat /proc/sys/kernel/tainted")) & TAINT_USER
    m.mark("override")
    allow_any_image(m)
    assert int(m.sh("cat /proc/sys/kernel/tainted")) & TAINT_USER
    m.kexec_load(image=image)
    m.kexec_go()
    for said in ("Setting dangerous option luo.any_image - tainting kernel",
                 "luo.any_image is set: going into a kernel that does not take .*kho-v4"):
        m.wait_console(said, "override", timeout=1)
    # It is our kernel after all.
    take_over(owner)
    see_nothing_lost(owner.settle())
    assert m.sh(f"cat {ANY_IMAGE}") == "N"
