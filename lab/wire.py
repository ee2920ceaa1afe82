# SPDX-License-Identifier: GPL-2.0-only
"""The other end of a network controller's cable: send and receive raw Ethernet frames.

The frames that igb_tx sends and igb_rx_check expects (tests/guest/igb.c) carry a number and
a pattern made from it; nothing is lost between here and the controller.
"""

import socket
import struct
import threading
import time

FRAME = 256
HEADER = struct.Struct("<6s6sHHQ")
ETHERTYPE = 0xb588
ADDRESSES = 12
BROADCAST = b"\xff" * 6
MASK = (1 << 64) - 1


def _mix(x):
    """Mix the bits of a 64-bit number (the finalizer of splitmix64)."""
    x = (x + 0x9e3779b97f4a7c15) & MASK
    x = ((x ^ (x >> 30)) * 0xbf58476d1ce4e5b9) & MASK
    x = ((x ^ (x >> 27)) * 0x94d049bb133111eb) & MASK
    return x ^ (x >> 31)


def pattern(seed, place, offset):
    """Return the 64-bit word that belongs at a place, as tests/guest/pattern.c has it."""
    return _mix(_mix(seed ^ _mix(place)) ^ offset)


def address(number):
    """Return the Ethernet address of a controller's virtual function (igb_admit)."""
    return bytes((2, 0, 0, 0, 1, number))


def group(number):
    """Return the multicast address that a controller's virtual function asks for (igbvf_group)."""
    return bytes((3, 0, 0, 0, 1, 0x40 + number))


def frame(seq, to=BROADCAST):
    """Make frame number seq."""
    head = HEADER.pack(to, b"\x02" + bytes(5), ETHERTYPE, 0, seq)
    words = [pattern(0, seq, offset) for offset in range(0, FRAME - HEADER.size, 8)]
    return head + struct.pack(f"<{len(words)}Q", *words)


def number(data):
    """Return the number of a frame of ours, for whomever, that is intact; None for others."""
    if len(data) < FRAME or HEADER.unpack_from(data)[2] != ETHERTYPE:
        return None
    seq = HEADER.unpack_from(data)[4]
    return seq if data[ADDRESSES:FRAME] == frame(seq)[ADDRESSES:] else None


class Stream(threading.Thread):
    """Frames that are sent at a fixed rate until they are stopped, each with the next number.

    next is the number that comes next. A frame that cannot be sent at its time is sent late,
    none is left out.
    """

    def __init__(self, wire, first, rate, to=BROADCAST):
        """Begin to send."""
        super().__init__(daemon=True)
        self.first = first
        self.next = first
        self._wire = wire
        self._to = to
        self._interval = 1 / rate
        self._end = threading.Event()
        self._error = None
        self.start()

    def run(self):
        """Send until told to stop, or until nobody takes the frames."""
        began = time.monotonic()
        try:
            while True:
                due = began + (self.next - self.first) * self._interval
                if self._end.wait(max(due - time.monotonic(), 0)):
                    return
                self._wire.send(self.next, 1, to=self._to)
                self.next += 1
        except OSError as error:
            self._error = error

    def stop(self):
        """Stop; returns the number after the last frame. Raises OSError if it stopped itself."""
        self._end.set()
        self.join()
        if self._error:
            raise self._error
        return self.next


class Wire:
    """A cable: QEMU's socket is the far end, ours the near one."""

    def __init__(self, folder, name):
        """Lay the cable of a controller; its ends are sockets in a folder."""
        self.near = f"{folder}/{name}.near"
        self.far = f"{folder}/{name}.far"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.near)

    def send(self, first, count, timeout=10, to=BROADCAST):
        """Send numbered frames; raises TimeoutError when the controller takes them not."""
        for seq in range(first, first + count):
            self.send_raw(frame(seq, to), timeout)

    def send_raw(self, data, timeout=10):
        """Send a frame as it is."""
        self._socket.settimeout(timeout)
        self._socket.sendto(data, self.far)

    def stream(self, first, rate, to=BROADCAST):
        """Send numbered frames from now on, that many in a second; returns the Stream."""
        return Stream(self, first, rate, to)

    def receive(self, count, timeout=10):
        """Return the numbers of the next count frames of ours, or of those that come in time."""
        numbers = []
        end = time.monotonic() + timeout
        while len(numbers) < count and time.monotonic() < end:
            self._socket.settimeout(max(end - time.monotonic(), 0.01))
            try:
                seq = number(self._socket.recv(65536))
            except TimeoutError:
                break
            if seq is not None:
                numbers.append(seq)
        return numbers

    def close(self):
        """Pull the cable."""
        self._socket.close()
