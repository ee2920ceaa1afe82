# SPDX-License-Identifier: GPL-2.0-only
"""QEMU as a debugger (the GDB remote protocol): what only that can do to a machine.

It writes to physical memory, and holds one processor up at a chosen instruction while another
goes on, as a busy hypervisor does by chance.
"""

import socket
import time

PATIENCE = 60
PIECE = 1024
INTERRUPT = b"\x03"


class Debugger:
    """A connection to QEMU's gdbstub; the machine stands still until one lets it go on."""

    def __init__(self, path):
        """Connect at a path."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        self._input = b""

    def close(self):
        """Leave."""
        self._socket.close()

    def _send(self, packet):
        """Send a packet, with its checksum."""
        self._socket.sendall(b"$%s#%02x" % (packet, sum(packet) & 0xff))

    def _receive(self):
        """Return the next packet."""
        while b"#" not in self._input[:-2]:
            data = self._socket.recv(4096)
            if not data:
                raise ConnectionError("QEMU's gdbstub has gone")
            self._input += data
        packet, _, rest = self._input.partition(b"#")
        self._input = rest[2:]
        self._socket.sendall(b"+")
        return packet.lstrip(b"+")[1:]

    def _ask(self, packet):
        """Send a packet and return the answer."""
        self._send(packet)
        answer = self._receive()
        if answer.startswith(b"E"):
            raise ConnectionError(f"gdbstub: {packet}: {answer}")
        return answer

    def read(self, address, size):
        """Return bytes at a virtual address."""
        return bytes.fromhex(self._ask(b"m%x,%x" % (address, size)).decode())

    def write(self, address, data):
        """Write to physical memory."""
        self._ask(b"Qqemu.PhyMemMode:1")
        for i in range(0, len(data), PIECE):
            piece = data[i:i + PIECE]
            self._ask(b"M%x,%x:%s" % (address + i, len(piece), piece.hex().encode()))
        self._ask(b"Qqemu.PhyMemMode:0")

    def hold_up(self, address, seconds):
        """Let the machine run, and hold up for a while who comes to an instruction first.

        The other processor (there are two) goes on meanwhile, and both do in the end, without a
        debugger. Returns which it was, 0 or 1.
        """
        self._ask(b"Z1,%x,1" % address)
        stop = self._ask(b"vCont;c")
        late = int(stop.partition(b"thread:")[2].partition(b";")[0].rpartition(b".")[2], 16)
        # Threads are numbered from 1.
        self._send(b"vCont;c:%x" % (3 - late))
        time.sleep(seconds)
        self._socket.sendall(INTERRUPT)
        self._receive()
        self._ask(b"z1,%x,1" % address)
        self._ask(b"D")
        return late - 1
