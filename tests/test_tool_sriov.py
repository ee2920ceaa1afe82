# SPDX-License-Identifier: GPL-2.0-only
"""The tool vfio-liveupdate and virtual functions, in machines."""

import pytest

from lab.running import Running
from test_sriov import CONTROLLER, DRIVE, with_vfs
from test_sriov_held import native
from test_tool import (FAILED, NEEDS_ROOT, OK, REFUSED, USER, answers, device_lines, kexec, run,
                       summary)
from update import Owner, see_good_update, state, take_over

GOOD = (True, True, True, None, None)
VFS = ("nvme0vf0", "nvme0vf1")


@pytest.mark.thorough
def test_beside_their_own(start):
    """A controller of vfio-pci and its virtual functions: nothing is amiss, in each kernel."""
    m = start(topology=CONTROLLER)
    owner = Running(m)
    owner.open(*with_vfs("igb0", 2))
    owner.start()
    pf, *vfs = (device.bdf for device in owner.devices.values())
    said = answers(m)
    assert summary(said[pf])[:4] == (True, False, True, "has-virtual-functions")
    assert (said[pf]["vfs"], said[pf]["physfn"], said[pf]["hold"]) == (2, None, False)
    assert [(summary(said[vf]), said[vf]["physfn"]) for vf in vfs] == [(GOOD, pf)] * 2
    for words in ((), (vfs[0],), (pf, *vfs)):
        said = run(m, "check", "--running", *words)
        assert said.code == OK and pf in said.out
    assert "Ready: 3 devices can be preserved in running mode" in said.out
    owner.preserve()
    assert device_lines(m) == [(bdf, "outgoing", "running", "preserved", "running")
                               for bdf in (pf, *vfs)]
    said = run(m, *kexec(m.next_kernel, "-r", "-n"))
    assert said.code == OK and not said.err
    m.kexec_by(f"vfio-liveupdate {' '.join(kexec(m.next_kernel, '-r'))}")
    assert device_lines(m) == [(bdf, "incoming", "running", "waiting", None) for bdf in (pf, *vfs)]
    take_over(owner)
    assert device_lines(m) == []
    see_good_update(owner)


@pytest.mark.thorough
def test_held(start):
    """The whole way: held for its virtual functions, at the jump and after it, and released."""
    m = start(topology=DRIVE)
    pf, *vfs = native(m, hold=False), *map(m.bdf, VFS)
    assert m.driver(pf) == "nvme"
    assert run(m, "hold", vfs[0]).code == FAILED
    assert run(m, "release", "--yes", pf).code == FAILED
    owner = Owner(m)
    owner.own(*VFS)
    said = run(m, "check", "--running", *vfs)
    assert said.code == REFUSED and "2 of 2 devices cannot be preserved" in said.out
    said = run(m, "hold", pf, user=USER)
    assert said.code == NEEDS_ROOT and "hold needs root" in said.err
    said = run(m, "hold", pf)
    assert said.code == OK and f"{pf} is held when virtual functions" in said.out and not said.err
    said = answers(m)
    assert said[pf]["hold"] and summary(said[pf])[3] == "other-driver"
    assert [summary(said[vf]) for vf in vfs] == [GOOD] * 2
    said = run(m, "check", "--running")
    assert said.code == OK and f"{pf} is held for 2 of these" in said.out

    owner.preserve(*VFS)
    outgoing = [(pf, "outgoing", "held", None, None),
                *((vf, "outgoing", "idle", "preserved", "test") for vf in vfs)]
    assert device_lines(m) == outgoing
    said = run(m, "hold", "--undo", pf)
    assert said.code == REFUSED and "virtual functions of it are preserved" in said.err
    assert f"{pf} is held from the jump on" in run(m, "status").out
    said = run(m, *kexec(m.next_kernel, "-r", "-n"))
    assert said.code == OK
    assert said.err.startswith(f"vfio-liveupdate: warning: {pf} (nvme) is held for 2 virtual func")
    assert len(said.err.splitlines()) == 1

    m.kexec_by(f"vfio-liveupdate {' '.join(kexec(m.next_kernel, '-r'))}")
    assert device_lines(m) == [(pf, "incoming", "held", None, None),
                               *((vf, "incoming", "idle", "waiting", None) for vf in vfs)]
    said = run(m, "release", "--yes", pf)
    assert said.code == REFUSED and f"its virtual function {vfs[0]} is in a live" in said.err
    owner.retrieve(*VFS)
    assert run(m, "release", "--yes", pf).code == REFUSED
    owner.finish()
    assert device_lines(m) == [(pf, "incoming", "held", None, None)]
    assert f"{pf} is held, no driver has it" in run(m, "status").out
    assert summary(answers(m)[pf]) == (False, False, True, "no-driver", "no driver is bound: "
                                       "held for its virtual functions")
    said = run(m, *kexec(m.next_kernel, "-r", "-n"))
    assert said.code == OK and f"{pf} is held, and none of its virtual functions" in said.err
    assert "nvme0" not in said.err and said.err.count("is bound to vfio-pci and not preserved") == 2
    see_released(m, owner, pf, vfs)


def see_released(m, owner, pf, vfs):
    """Release a physical function whose virtual ones somebody has open, who is waited for."""
    said = run(m, "release", pf, user=USER)
    assert said.code == NEEDS_ROOT and "release needs root" in said.err
    said = run(m, "release", pf)
    assert said.code == REFUSED and "--yes goes on" in said.err
    assert all(vf in said.out for vf in vfs)
    process = f"{owner.worker.pid()} ("
    assert said.out.count(process) == 2
    releaser = m.worker("releaser")
    releaser.start("sh", f"vfio-liveupdate release --yes {pf} >/tmp/released 2>&1")
    m.sh("until grep 'is in use by' /tmp/released; do sleep 0.1; done")
    text = m.sh("cat /tmp/released")
    assert f"waiting until the virtual functions of {pf} are closed" in text
    assert f"is in use by process {process}" in text and "is released" not in text
    owner.worker.kill()
    assert int(releaser.wait()) == 0
    assert f"{pf} is released, and has the driver nvme." in m.sh("cat /tmp/released")
    assert m.driver(pf) == "nvme" and state(m, pf) == "none"
    assert m.sh(f"cat /sys/bus/pci/devices/{pf}/sriov_numvfs") == "0"
    said = run(m, "release", "--yes", pf)
    assert said.code == FAILED and f"{pf} is not held" in said.err


@pytest.mark.thorough
def test_hold_and_undo(start):
    """What is not held when it counts is refused; once all is taken back, nothing is held."""
    m = start(topology=DRIVE)
    pf, vf = native(m, count=1, hold=False), m.bdf("nvme0vf0")
    owner = Owner(m)
    owner.own("nvme0vf0")
    owner("session_create", "S", "test")
    assert owner.fails("preserve", "S", 1, "Dnvme0vf0") == "EOPNOTSUPP"
    assert run(m, "hold", pf).code == OK
    owner("preserve", "S", 1, "Dnvme0vf0")
    assert state(m, pf) == "outgoing held"
    owner("close", "S")
    assert state(m, pf) == state(m, vf) == "none"
    assert run(m, "hold", "--undo", pf).code == OK
    owner("session_create", "S", "test")
    assert owner.fails("preserve", "S", 1, "Dnvme0vf0") == "EOPNOTSUPP"
    assert m.driver(pf) == "nvme"
