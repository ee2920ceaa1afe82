# SPDX-License-Identifier: GPL-2.0-only
"""Images of kernels that are signed, by a key that a kernel trusts or by another; and UKIs."""

from pathlib import Path

from lab.image import Cpio, run

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
# Where in memory the parts of a UKI go, behind all that the stub has.
CMDLINE, LINUX = 0x100000, 0x2000000


def sign(image, key, out):
    """Sign an image; the key's file has its certificate, too."""
    run("sbsign", "--key", key, "--cert", key, "--output", out, image)
    return out


def strange_key(folder):
    """Make a key that no kernel knows."""
    key, certificate = folder / "key", folder / "certificate"
    run("openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "36500",
        "-subj", "/CN=nobody", "-keyout", key, "-out", certificate)
    both = folder / "strange.pem"
    both.write_text(key.read_text() + certificate.read_text())
    return both


def unify(image, out):
    """Make a unified kernel image out of a kernel, as systemd-stub(7) has it."""
    words = out.with_suffix(".cmdline")
    words.write_text("quiet")
    run("objcopy", "--add-section", f".cmdline={words}", "--change-section-vma",
        f".cmdline={CMDLINE:#x}", "--add-section", f".linux={image}", "--change-section-vma",
        f".linux={LINUX:#x}", STUB, out)
    return out


def packed(out, **files):
    """Pack files into an archive that a machine can unpack, under these names."""
    archive = Cpio()
    for name, path in files.items():
        archive.file(name, path)
    out.write_bytes(archive.data())
    return out
