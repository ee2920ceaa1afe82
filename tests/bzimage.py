# SPDX-License-Identifier: GPL-2.0-only
"""What a boot image declares to take over, read by other code than the kernel's; and images that
declare something else, made in a machine out of good ones."""

import struct
from dataclasses import dataclass
from pathlib import Path

SETUP_SECTS, KERNEL_INFO_OFFSET = 0x1f1, 0x268
SIZE_TOTAL = 8
CHUNK = b"LUpd"


@dataclass(frozen=True)
class Declaration:
    """Where kernel_info is in an image, where our chunk is, and what is in it."""

    info: int
    chunk: int
    size: int
    versions: tuple

    @classmethod
    def of(cls, data):
        """Find the declaration of an image; ours is the only chunk there is in kernel_info."""
        setup = ((data[SETUP_SECTS] or 4) + 1) * 512
        info = setup + struct.unpack_from("<I", data, KERNEL_INFO_OFFSET)[0]
        assert data[info:info + 4] == b"LToP"
        fixed, total = struct.unpack_from("<II", data, info + 4)
        chunk = info + fixed
        size, = struct.unpack_from("<I", data, chunk + 4)
        assert data[chunk:chunk + 4] == CHUNK and fixed + size == total
        strings = data[chunk + 8:chunk + size]
        return cls(info, chunk, size, tuple(strings.decode("ascii").rstrip("\0").split("\0")))

    def where(self, version):
        """Return where in the image a version is."""
        before = self.versions[:self.versions.index(version)]
        return self.chunk + 8 + sum(len(text) + 1 for text in before)


def pe(*sections, signature=b"", plus=True):
    """Make a PE file of sections, pairs of name and content: a UKI has .linux among them."""
    optional = 240 if plus else 224
    head = bytearray(0x400)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3c, 0x80)
    struct.pack_into("<4sHHIIIHH", head, 0x80, b"PE", 0x8664, len(sections), 0, 0, 0, optional, 0)
    struct.pack_into("<H", head, 0x98, 0x20b if plus else 0x10b)
    directories = 0x98 + (112 if plus else 96)
    struct.pack_into("<I", head, directories - 4, 16)
    data = b""
    for i, (name, content) in enumerate(sections):
        struct.pack_into("<8sIIII", head, 0x98 + optional + 40 * i, name, len(content), 0,
                         len(content), len(head) + len(data))
        data += content
    if signature:
        struct.pack_into("<II", head, directories + 32, len(head) + len(data), len(signature))
    return bytes(head) + data + signature


def removed(found):
    """Edit an image so that kernel_info has no chunks."""
    return found.info + SIZE_TOTAL, struct.pack("<I", found.chunk - found.info)


def renamed(found):
    """Edit an image so that it has no chunk of ours, but one that nobody knows."""
    return found.chunk, b"ABCD"


def too_long(found):
    """Edit an image so that its chunk ends behind kernel_info."""
    return found.chunk + 4, struct.pack("<I", 0xffffffff)


def too_short(found):
    """Edit an image so that its chunk ends within its own header."""
    return found.chunk + 4, struct.pack("<I", 7)


def unended(found):
    """Edit an image so that its last string does not end."""
    return found.chunk + found.size - 1, b"x"


def raised(version):
    """Return an edit that raises a version of an image."""
    def edit(found):
        return found.where(version) + len(version) - 1, b"9"
    return edit


def edited(data, edit):
    """Return the bytes of an image after an edit."""
    at, new = edit(Declaration.of(data))
    return data[:at] + new + data[at + len(new):]


def spoil(machine, edit, path="/tmp/bzImage"):
    """Make the machine's next kernel once more, edited; return the path in the machine."""
    at, new = edit(Declaration.of(Path(machine.next_kernel.image).read_bytes()))
    octal = "".join(f"\\{byte:03o}" for byte in new)
    machine.sh(f"cp {machine.next_kernel.guest_image} {path};"
               f"printf '{octal}' | dd of={path} bs=1 seek={at} conv=notrunc 2>/dev/null")
    return path
