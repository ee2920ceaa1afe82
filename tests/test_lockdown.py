# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that is locked down: what it refuses is said while devices work on, then all goes on."""

import re

import pytest

import bzimage
from lab import Nvme, Port
from lab.image import Kernel
from lab.running import Running
from signing import packed, sign, strange_key, unify
from test_tool import FAILED, INITRD, OK, REFUSED, ask, kexec, loaded, run
from update import (ANY_IMAGE, PAIR, allow_any_image, see_good_update, see_jump_refused,
                    see_undisturbed, states, take_over)

pytestmark = pytest.mark.only("distro")

KERNEL = "distro"
LOCKED = "signed images only (lockdown=integrity)"
FOLDER = "/tmp/files"
FILES = "files"
SIZE = 256 << 20


def boot(start, tmp_path, append="lockdown=integrity", **files):
    """Start a machine whose devices are at work and preserved, with files in FOLDER."""
    content = packed(tmp_path / "files.cpio", **files)
    drive = Nvme(FILES, content=content, size=SIZE)
    m = start(topology=(*PAIR, Port(drive)), append=append)
    disk = m.sh(f"echo /sys/bus/pci/devices/{m.bdf(FILES)}/nvme/nvme*").rpartition("/")[2]
    m.sh(f"mkdir {FOLDER} && cd {FOLDER} && cpio -i </dev/{disk}n1 2>/dev/null")
    owner = Running(m)
    owner.open("nvme0", "igb0")
    owner.start()
    owner.preserve()
    return m, owner


def words(name, *more):
    """Return the words of a command that loads an image of FOLDER and jumps."""
    return ("kexec", "--kernel", f"{FOLDER}/{name}", "--initrd", INITRD, "--reuse-cmdline", *more)


def see_load_refused(m, name):
    """See that the kernel itself does not load an image, and says so."""
    m.mark("refusal")
    assert m.worker("kexec").fails("kexec_load", f"{FOLDER}/{name}", INITRD, "quiet") == "EPERM"
    m.wait_console("Lockdown: .*: kexec of unsigned images is restricted", "refusal")
    assert not loaded(m)


def see_goes_on(m, owner, name="signed"):
    """See that refusals changed nothing, and that a signed image is jumped into at once."""
    assert states(owner) == {"outgoing running"}
    m.mark("refused")
    see_undisturbed(owner, "load", "refused")
    owner.refill()
    said = run(m, *words(name, "--dry-run"))
    assert said.code == OK, said
    m.kexec_by(f"vfio-liveupdate {' '.join(words(name))}")
    assert states(owner) == {"incoming running"}
    take_over(owner)
    see_good_update(owner)


def what_kexec_is(m):
    """Return what check says of kexec."""
    line, = [line for line in ask(m, "check", "--running")["checks"] if line["check"] == "kexec"]
    assert line["result"] == "ok"
    return line["value"]


def test_unsigned(start, tmp_path):
    """An unsigned image is refused before anything is done; the signed one goes through."""
    m, owner = boot(start, tmp_path, signed=Kernel.named(KERNEL).signed)
    assert what_kexec_is(m) == LOCKED
    for more in ((), ("--dry-run",)):
        said = run(m, *kexec(m.next_kernel, "--reuse-cmdline", *more))
        assert said.code == REFUSED and not loaded(m)
        assert f"has no signature, and this kernel loads {LOCKED}" in said.err
    said = run(m, *kexec(m.next_kernel, "--reuse-cmdline", "--force"))
    assert said.code == FAILED and not loaded(m)
    assert "cannot be loaded: the kernel does not allow it" in said.err
    m.sh(f"ln -s {m.next_kernel.guest_image} {FOLDER}/unsigned")
    see_load_refused(m, "unsigned")
    # Where nobody has mounted what tells of it, the log does.
    m.sh("umount /sys/kernel/security")
    assert what_kexec_is(m) == "signed images only (the kernel is locked down)"
    m.sh("mount -t securityfs securityfs /sys/kernel/security")
    see_goes_on(m, owner)
    assert what_kexec_is(m) == LOCKED


@pytest.mark.thorough
def test_wrong_signatures(start, tmp_path):
    """So is an image that somebody else has signed, or that was changed since."""
    kernel = Kernel.named(KERNEL)
    strange = sign(kernel.image, strange_key(tmp_path), tmp_path / "strange")
    m, owner = boot(start, tmp_path, signed=kernel.signed, strange=strange)
    m.sh(f"cp {FOLDER}/signed {FOLDER}/changed;"
         f"printf x | dd of={FOLDER}/changed bs=1 seek=$((1 << 20)) conv=notrunc 2>/dev/null")
    for name in ("strange", "changed"):
        said = run(m, *words(name))
        assert said.code == FAILED and not loaded(m)
        assert re.search("does not allow it: .* locked down, and does not know who signed this",
                         said.err)
        see_load_refused(m, name)
    see_goes_on(m, owner)


@pytest.mark.thorough
def test_unified_images(start, tmp_path):
    """A UKI is refused, signed or not; the kernel in it can be taken out, and is good if signed."""
    kernel = Kernel.named(KERNEL)
    inner = unify(kernel.signed, tmp_path / "inner")
    m, owner = boot(start, tmp_path, unsigned=inner,
                    uki=sign(inner, kernel.key, tmp_path / "uki"))
    for name in ("unsigned", "uki"):
        for more in ((), ("--dry-run",)):
            said = run(m, *words(name, *more))
            assert said.code == REFUSED and not loaded(m)
            assert "is a unified kernel image (UKI), which cannot be loaded" in said.err
        said = run(m, *words(name, "--force"))
        assert said.code == FAILED and "it is no kernel that this one can start" in said.err
        assert m.worker("kexec").fails("kexec_load", f"{FOLDER}/{name}", INITRD, "q") == "ENOEXEC"
        assert not loaded(m)
    # The machine has no objcopy; this is what it takes out.
    with open(tmp_path / "uki", "rb") as file:
        at = file.read().index(kernel.signed.read_bytes())
    size = kernel.signed.stat().st_size
    m.sh(f"tail -c +{at + 1} {FOLDER}/uki | head -c {size} >{FOLDER}/taken")
    see_goes_on(m, owner, "taken")


@pytest.mark.thorough
def test_override(start, tmp_path):
    """A kernel that is locked down does not heed luo.any_image, though it can be set."""
    kernel = Kernel.named(KERNEL)
    unknowing = tmp_path / "unsigned"
    unknowing.write_bytes(bzimage.edited(kernel.image.read_bytes(), bzimage.removed))
    m, owner = boot(start, tmp_path, signed=kernel.signed,
                    unknowing=sign(unknowing, kernel.key, tmp_path / "unknowing"))
    allow_any_image(m)
    assert m.sh(f"cat {ANY_IMAGE}") == "Y"
    m.mark("refusal")
    m.kexec_load(image=f"{FOLDER}/unknowing")
    see_jump_refused(m, "ENOEXEC")
    m.wait_console("luo: Freeze failed! The next kernel does not take .*kho-v4", "refusal")
    assert "luo.any_image is set: going" not in m.console_text("refusal")
    see_goes_on(m, owner)


@pytest.mark.thorough
def test_not_locked_down(start, tmp_path):
    """The very same kernel takes unsigned images when it is not locked down."""
    m, owner = boot(start, tmp_path, append="", signed=Kernel.named(KERNEL).signed)
    assert what_kexec_is(m) == "allowed"
    m.kexec_by(f"vfio-liveupdate {' '.join(kexec(m.next_kernel, '--reuse-cmdline'))}")
    take_over(owner)
    see_good_update(owner)
