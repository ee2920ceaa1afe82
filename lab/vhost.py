# SPDX-License-Identifier: GPL-2.0-only
"""A block device that caches translations, as devices with PCIe ATS do.

QEMU's own devices ask the IOMMU each time. This one is the back end of QEMU's vhost-user-blk-pci:
it asks QEMU for the translation of an address once (an IOTLB miss), and uses what it was told
until the machine flushes it (an IOTLB invalidation). It gives up nothing by itself, so that a
flush that is missing shows: the device goes on to the memory where its buffers used to be.

A request's descriptors are read when the driver announces it. All the rest is translated, and
read or written, when the request is completed: in their order, so many a second.

Numbers have the names that the vhost-user specification gives them (in Debian's qemu-system-data,
interop/vhost-user.html) less its prefix VHOST_USER_, and those of linux/virtio_blk.h.
"""

import bisect
import collections
import concurrent.futures
import contextlib
import enum
import mmap
import os
import select
import socket
import struct
import threading
import time
import traceback
from dataclasses import dataclass, replace

from .timeline import Timeline
from .trace import Event, select as select_events

SIZE = 64 << 20
SECTOR = 512
QUEUE_SIZE = 1024
SEGMENTS = QUEUE_SIZE - 2
PATIENCE = 10


class Message(enum.IntEnum):
    """What the front end, QEMU, says ("Front-end message types")."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    GET_CONFIG = 24
    SET_CONFIG = 25
    RESET_DEVICE = 34


# What the back end says ("Back-end message types")
BACKEND_IOTLB_MSG = 1

# "Header": request, flags, size
HEADER = struct.Struct("<III")
VERSION, REPLY, NEED_REPLY = 1, 1 << 2, 1 << 3
MOST_FDS = 8
NO_FD = 1 << 8

# "Protocol features": MQ, REPLY_ACK, BACKEND_REQ, CONFIG, RESET_DEVICE
PROTOCOL = 1 << 0 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 13
# VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_FLUSH, VIRTIO_RING_F_INDIRECT_DESC,
# VHOST_USER_F_PROTOCOL_FEATURES, VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM
FEATURES = 1 << 2 | 1 << 9 | 1 << 28 | 1 << 30 | 1 << 32 | 1 << 33

U64 = struct.Struct("<Q")
# "A vring state description", "A vring address description", "Memory region description"
STATE = struct.Struct("<II")
ADDRESSES = struct.Struct("<IIQQQQ")
REGIONS, REGION = struct.Struct("<II"), struct.Struct("<QQQQ")
# "Virtio device config space"
CONFIG = struct.Struct("<III")
# "An IOTLB message", which is struct vhost_iotlb_msg
IOTLB = struct.Struct("<QQQBB6x")
MISS, UPDATE, INVALIDATE = 1, 2, 3
READ, WRITE = 1, 2
TOP = (1 << 64) - 1

# struct virtq_desc, and its flags
DESCRIPTOR = struct.Struct("<QIHH")
NEXT, WRITABLE, INDIRECT = 1, 2, 4
# flags and idx of struct virtq_avail and of struct virtq_used, whose elements follow
RING = struct.Struct("<HH")
USED = struct.Struct("<II")
NO_INTERRUPT = 1

# struct virtio_blk_outhdr, VIRTIO_BLK_T_*, VIRTIO_BLK_S_*
REQUEST = struct.Struct("<IIQ")
IN, OUT, FLUSH, GET_ID = 0, 1, 4, 8
OK, IOERR, UNSUPP = 0, 1, 2
ID_BYTES = 20
# struct virtio_blk_config: capacity, size_max, seg_max; the rest is for features it has not
BLOCK_CONFIG = struct.Struct("<QII")


class VhostError(Exception):
    """QEMU or the machine's driver did what the device cannot make sense of."""


class _Refused(Exception):
    """The IOMMU gave no translation."""


class _Stopped(Exception):
    """The queue was stopped while the device waited for a translation."""


class _Ended(Exception):
    """QEMU is gone, or the device is to end."""


@dataclass(frozen=True)
class Region:
    """A part of the machine's memory: where it is for the machine, for QEMU, and for us."""

    memory: int
    size: int
    user: int
    offset: int
    map: mmap.mmap


@dataclass(frozen=True)
class Translation:
    """What the device was told: this range of its addresses is there in the machine's memory.

    user is where that is for QEMU; access has the kinds of access that it is good for; time is
    when it came.
    """

    iova: int
    size: int
    memory: int
    user: int
    access: int
    time: float

    @property
    def last(self):
        """The last address."""
        return self.iova + self.size - 1

    def part(self, first, last):
        """Return what it says of a part of its range."""
        skip = first - self.iova
        return replace(self, iova=first, size=last - first + 1, memory=self.memory + skip,
                       user=self.user + skip)


class Tlb:
    """Translations, none of which overlap; as many as there are."""

    def __init__(self):
        """Begin with none."""
        self._firsts = []
        self._found = {}

    def overlapping(self, first, last):
        """Return those that have to do with a range, in their order."""
        low = max(bisect.bisect_right(self._firsts, first) - 1, 0)
        high = bisect.bisect_right(self._firsts, last)
        return [self._found[start] for start in self._firsts[low:high]
                if self._found[start].last >= first]

    def add(self, new):
        """Take a translation in, in the place of what there is for its range."""
        self.remove(new.iova, new.last)
        self._keep(new)

    def _keep(self, new):
        """Take a translation in for whose range there is none."""
        bisect.insort(self._firsts, new.iova)
        self._found[new.iova] = new

    def remove(self, first, last):
        """Forget a range and nothing else; returns what was forgotten."""
        gone = []
        for old in self.overlapping(first, last):
            self._firsts.remove(old.iova)
            del self._found[old.iova]
            begin, end = max(old.iova, first), min(old.last, last)
            gone.append(old.part(begin, end))
            if old.iova < begin:
                self._keep(old.part(old.iova, begin - 1))
            if old.last > end:
                self._keep(old.part(end + 1, old.last))
        return gone


@dataclass
class Queue:
    """The virtqueue: its number of entries, addresses, and how far the device has come.

    next is the index in the available ring of what to take next, used that in the used ring.
    broken says that the device could not reach the queue itself, and does nothing any more.
    """

    size: int = QUEUE_SIZE
    descriptors: int = 0
    available: int = 0
    used_ring: int = 0
    next: int = 0
    used: int = None
    started: bool = False
    enabled: bool = False
    broken: bool = False
    kick: int = None
    call: int = None


@dataclass(frozen=True)
class Chain:
    """A request that the driver has made: the first descriptor, and buffers (address, size)."""

    head: int
    readable: tuple
    writable: tuple


class Blk(threading.Thread):
    """The device: it listens at a path for QEMU, and works in a thread of its own.

    rate is how many requests it completes in a second, 0: as many as it can; it can be set at any
    time. data is what is on the device. failure is what went wrong with the device itself, if
    anything has.

    What it did is in its log, with times and in the form of lab.trace: events() and the like.

    | event | fields |
    | --- | --- |
    | vhost_start, vhost_stop, vhost_reset | |
    | vhost_miss | iova, write |
    | vhost_update | iova, size, memory, access, write: whether it was asked for a write, or not |
    | vhost_refused | iova, write: no translation came for a miss |
    | vhost_invalidate | iova, size as QEMU says it, dropped: the bytes that the device forgets |
    | vhost_access | iova, size, memory, write, cached: without asking, queue: not a buffer |
    | vhost_taken | head |
    | vhost_done | head, type, sector, size, status |
    | vhost_broken | iova |
    """

    def __init__(self, name, path, size=SIZE, rate=0):
        """Begin to listen."""
        super().__init__(name=f"vhost {name}", daemon=True)
        self.device = name
        self.path = path
        self.data = bytearray(size)
        self.failure = None
        self._rate = rate
        self._lock = threading.Lock()
        self._events = []
        self._tlb = Tlb()
        self._regions = []
        self._queue = Queue()
        self._runs = 0
        self._pending = collections.deque()
        self._orders = collections.deque()
        self._last = 0
        self._asked = None
        self._sent = self._answered = 0
        self._refusals = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self._front = self._back = None
        self._wake = os.eventfd(0)
        self._end = False
        self.start()

    # --- questions, and what the test decides ---

    @property
    def rate(self):
        """How many requests it completes in a second; 0: as many as it can."""
        return self._rate

    @rate.setter
    def rate(self, rate):
        """Set the rate; it holds for the next request."""
        self._rate = rate
        self._rouse()

    def _rouse(self):
        """Have the thread look at what the test has decided."""
        if self._wake is not None:
            os.eventfd_write(self._wake, 1)

    @property
    def busy(self):
        """How many requests the device has taken and not completed."""
        return len(self._pending)

    def translations(self, iova=0, size=TOP):
        """Return the Translations that the device has now, of a range of its addresses."""
        with self._lock:
            return self._tlb.overlapping(iova, iova + size - 1)

    def read(self, iova, size):
        """Have the device read at an address, now, as it reads a buffer; None: it may not."""
        return self._order(iova, size)

    def write(self, iova, data):
        """Have the device write at an address, likewise; tells whether it could."""
        return self._order(iova, len(data), data) is not None

    def _order(self, *what):
        """Have the thread do an access; returns what it read, or None when it was refused."""
        if not self.is_alive():
            raise VhostError(f"{self.device} has ended: {self.failure}")
        order = concurrent.futures.Future()
        self._orders.append((order, what))
        self._rouse()
        return order.result(2 * PATIENCE)

    def _obey(self):
        """Do the accesses that the test wants."""
        while self._orders:
            order, what = self._orders.popleft()
            try:
                # A device that is stopped says nothing to QEMU ("Suspended device state").
                order.set_result(self._access(*what, queue=False) if self._queue.started
                                 else None)
            except (_Refused, _Stopped):
                order.set_result(None)
            except BaseException:
                order.cancel()
                raise

    def stale(self, reach):
        """Return the Translations that differ from what the IOMMU's tables say.

        reach is from lab.vtd.Tables.reach(): each part of a translation has to be in it.
        """
        mapped = Tlb()
        for iova, memory, size in reach:
            mapped.add(Translation(iova, size, memory, 0, READ | WRITE, 0))
        wrong = []
        for have in self.translations():
            place = have.iova
            for said in mapped.overlapping(have.iova, have.last):
                if said.iova <= place and said.memory - said.iova == have.memory - have.iova:
                    place = said.last + 1
            if place <= have.last:
                wrong.append(have)
        return wrong

    def events(self, name=None, since=0.0, until=float("inf")):
        """Return what the device did, of a span of time of the host's."""
        with self._lock:
            events = list(self._events)
        return select_events(events, name, since=since, until=until)

    def accesses(self, iova=0, size=TOP, since=0.0, until=float("inf"), cached=None):
        """Return the accesses to a range; of them those with or without a cached translation."""
        return [event for event in self.events("vhost_access", since, until)
                if event.fields["iova"] < iova + size
                and iova < event.fields["iova"] + event.fields["size"]
                and cached in (None, bool(event.fields["cached"]))]

    def done(self, since=0.0, until=float("inf"), status=None):
        """Return the requests that were completed (with a status)."""
        return [event for event in self.events("vhost_done", since, until)
                if status in (None, event.fields["status"])]

    def timeline(self):
        """Return when requests were completed."""
        return Timeline(event.time for event in self.done())

    def forget(self, until):
        """Let the events before a moment go."""
        with self._lock:
            self._events = [event for event in self._events if event.time >= until]

    def close(self):
        """End the device; whether it was well is in failure."""
        self._end = True
        self._rouse()
        self.join(PATIENCE)
        if self.is_alive():
            self.failure = self.failure or "its thread does not end"
        elif self._wake is not None:
            os.close(self._wake)
            self._wake = None

    # --- the thread ---

    def run(self):
        """Serve QEMU until it is gone, or until the end."""
        try:
            self._accept()
            while True:
                self._turn(self._work())
                self._obey()
        except _Ended:
            pass
        except Exception:  # whatever it was, the test fails by it
            self.failure = traceback.format_exc()
        finally:
            self._hang_up()

    def _hang_up(self):
        """Close all that is open: QEMU must not wait for somebody who is gone."""
        for order, _ in self._orders:
            order.cancel()
        for part in (self._front, self._back, self._listener):
            if part:
                part.close()
        for fd in (self._queue.kick, self._queue.call):
            if fd is not None:
                os.close(fd)
        for region in self._regions:
            region.map.close()

    def _accept(self):
        """Wait for QEMU."""
        while not self._ended():
            ready, _, _ = select.select([self._listener, self._wake], [], [])
            if self._listener in ready:
                self._front, _ = self._listener.accept()
                self._front.settimeout(PATIENCE)
                return

    def _ended(self):
        """Raise _Ended when the device is to end."""
        if self._end:
            raise _Ended
        return False

    def _turn(self, timeout, kicks=True):
        """Wait for something, and act on it. Without kicks, leave the queue alone."""
        sources = [self._wake, self._front] + [self._back] * bool(self._back)
        if kicks and self._queue.kick is not None:
            sources.append(self._queue.kick)
        ready, _, _ = select.select(sources, [], [], timeout)
        if self._wake in ready:
            os.eventfd_read(self._wake)
            self._ended()
        if self._back in ready:
            self._take_answer()
        kick = self._queue.kick
        if self._front in ready:
            self._serve()
        # What was said may have taken the queue away.
        elif kick is not None and kick in ready:
            os.eventfd_read(kick)
            self._queue.started = True
            self._try(self._fetch)

    def _work(self):
        """Complete a request if it is its time; returns how long there is nothing to do."""
        if not self._pending or self._queue.broken:
            return None
        left = self._last + 1 / self._rate - time.monotonic() if self._rate else 0
        if left > 0:
            return left
        self._last = time.monotonic()
        self._try(self._complete)
        return 0

    def _try(self, step):
        """Do something with the queue, if it can be reached and is not stopped meanwhile."""
        if not self._queue.broken and self._queue.started:
            try:
                step()
            except _Refused as error:
                self._queue.broken = True
                self._log("vhost_broken", iova=error.args[0])
            except _Stopped:
                pass

    def _log(self, name, **fields):
        """Note what the device does."""
        text = " ".join(f"{key} {value:#x}" for key, value in fields.items())
        event = Event(time.time(), name, text, self.device, None, fields)
        with self._lock:
            self._events.append(event)

    # --- messages ---

    @staticmethod
    def _receive(connection):
        """Return the next message: its number, its flags, what is in it, files that came along."""
        data, fds, _, _ = socket.recv_fds(connection, HEADER.size, MOST_FDS)
        while data and len(data) < HEADER.size:
            data += connection.recv(HEADER.size - len(data)) or b""
        if not data:
            raise _Ended
        number, flags, size = HEADER.unpack(data)
        body = b""
        while len(body) < size:
            more = connection.recv(size - len(body))
            if not more:
                raise _Ended
            body += more
        return number, flags, body, fds

    def _serve(self):
        """Do what QEMU asks for, and answer."""
        try:
            number, flags, body, fds = self._receive(self._front)
            message = Message(number)
            answer = getattr(self, f"_{message.name.lower()}")(body, fds)
            if answer is None and flags & NEED_REPLY:
                answer = U64.pack(0)
            if answer is not None:
                self._front.sendall(HEADER.pack(number, VERSION | REPLY, len(answer)) + answer)
        except ConnectionError:
            raise _Ended from None

    def _get_features(self, *_):
        """Tell what the device can do."""
        return U64.pack(FEATURES)

    def _get_protocol_features(self, *_):
        """Tell what we understand."""
        return U64.pack(PROTOCOL)

    def _get_queue_num(self, *_):
        """Tell how many queues there are."""
        return U64.pack(1)

    def _get_config(self, body, _):
        """Tell what is in the device's configuration."""
        offset, size, flags = CONFIG.unpack_from(body)
        config = BLOCK_CONFIG.pack(len(self.data) // SECTOR, 0, SEGMENTS)
        return CONFIG.pack(offset, size, flags) + config.ljust(offset + size, b"\0")[offset:][:size]

    def _accept_as_it_is(self, *_):
        """Take notice of what makes no difference to us."""

    _set_features = _set_protocol_features = _set_owner = _set_config = _accept_as_it_is

    def _set_backend_req_fd(self, _, fds):
        """Take the socket that misses are told to."""
        if self._back:
            self._back.close()
        self._back = socket.socket(fileno=fds[0])
        self._back.settimeout(PATIENCE)
        self._sent = self._answered = 0

    def _set_mem_table(self, body, fds):
        """Take the machine's memory. What was translated is still at the place that QEMU gave."""
        old = self._regions
        count, _ = REGIONS.unpack_from(body)
        self._regions = []
        for i, fd in zip(range(count), fds, strict=True):
            memory, size, user, offset = REGION.unpack_from(body, REGIONS.size + i * REGION.size)
            self._regions.append(Region(memory, size, user, offset, mmap.mmap(fd, offset + size)))
            os.close(fd)
        for region in old:
            region.map.close()

    def _set_vring_num(self, body, _):
        """Take the number of the queue's entries."""
        self._queue.size = STATE.unpack(body)[1]

    def _set_vring_addr(self, body, _):
        """Take the addresses of the queue, which are the device's own, to be translated."""
        _, _, self._queue.descriptors, self._queue.used_ring, self._queue.available, _ = \
            ADDRESSES.unpack(body)

    def _set_vring_base(self, body, _):
        """Take the index of what comes next in the available ring."""
        self._queue.next = STATE.unpack(body)[1] & 0xffff
        self._queue.used = None

    def _get_vring_base(self, body, _):
        """Stop; the driver's requests that are not completed are given back.

        From here on QEMU does not tell what is flushed, and nothing may be kept.
        """
        self._forget_work()
        self._log("vhost_stop")
        return STATE.pack(STATE.unpack(body)[0], self._queue.next)

    def _reset_device(self, *_):
        """Forget everything."""
        self._forget_work()
        self._log("vhost_reset")

    def _forget_work(self):
        """Stop the queue, and forget what the device was told."""
        queue = self._queue
        queue.next = queue.next - len(self._pending) & 0xffff
        self._pending.clear()
        queue.started = queue.broken = False
        self._runs += 1
        with self._lock:
            self._tlb.remove(0, TOP)

    def _file(self, body, fds, old):
        """Return the file that came for the queue, or None; the old one is closed."""
        if old is not None:
            os.close(old)
        return None if U64.unpack(body)[0] & NO_FD else fds[0]

    def _set_vring_kick(self, body, fds):
        """Take the file by which the driver announces requests."""
        self._queue.kick = self._file(body, fds, self._queue.kick)
        self._log("vhost_start")

    def _set_vring_call(self, body, fds):
        """Take the file for interrupts."""
        self._queue.call = self._file(body, fds, self._queue.call)

    def _set_vring_err(self, body, fds):
        """Take the file for errors, which we have no use for."""
        fd = self._file(body, fds, None)
        if fd is not None:
            os.close(fd)

    def _set_vring_enable(self, body, _):
        """Let the queue work, or not."""
        self._queue.enabled = bool(STATE.unpack(body)[1])

    # --- translation ---

    def _iotlb_msg(self, body, _):
        """Take a translation, or forget some."""
        iova, size, user, access, kind = IOTLB.unpack(body)
        if kind == UPDATE:
            self._update(iova, size, user, access)
        elif kind == INVALIDATE:
            # No size means that all has to go: 1 << 64 is too large a number.
            last = min(iova + size - 1, TOP) if size else TOP
            with self._lock:
                gone = self._tlb.remove(iova, last)
            self._log("vhost_invalidate", iova=iova, size=size,
                      dropped=sum(part.size for part in gone))
        else:
            raise VhostError(f"IOTLB message of type {kind}")

    def _update(self, iova, size, user, access):
        """Take a translation.

        QEMU says of every page that it can be written, and has only looked whether it can for a
        miss of that kind. So what was asked for is what counts.
        """
        asked = self._asked if self._asked is not None else WRITE
        place = self._region(user)
        new = Translation(iova, size, place.memory + user - place.user, user,
                          access & (READ | asked), time.time())
        with self._lock:
            self._tlb.add(new)
        self._log("vhost_update", iova=iova, size=size, memory=new.memory, access=access,
                  write=int(asked == WRITE))

    def _region(self, user):
        """Return the part of the memory that a place is in."""
        for region in self._regions:
            if region.user <= user < region.user + region.size:
                return region
        raise VhostError(f"there is no memory at {user:#x} in QEMU")

    def _translation(self, iova, access):
        """Return a Translation, and whether the device had it; raises _Refused."""
        end = time.monotonic() + PATIENCE
        had = True
        while True:
            with self._lock:
                found = self._tlb.overlapping(iova, iova)
            if found and found[0].access & access:
                return found[0], had
            had = False
            self._ask(iova, access, end)

    def _ask(self, iova, access, end):
        """Tell QEMU of a miss, and wait until it has answered; raises _Refused when it says no.

        Meanwhile QEMU may want something itself, and will not go on before it gets it.
        """
        run = self._runs
        self._log("vhost_miss", iova=iova, write=int(access == WRITE))
        body = IOTLB.pack(iova, 0, 0, access, MISS)
        self._back.sendall(HEADER.pack(BACKEND_IOTLB_MSG, VERSION | NEED_REPLY, len(body)) + body)
        self._sent += 1
        mine = self._sent
        self._asked = access
        try:
            while self._answered < mine and time.monotonic() < end and run == self._runs:
                self._turn(max(end - time.monotonic(), 0), kicks=False)
        finally:
            self._asked = None
        if run != self._runs:
            raise _Stopped
        if self._answered < mine or mine in self._refusals:
            self._log("vhost_refused", iova=iova, write=int(access == WRITE))
            raise _Refused(iova)

    def _take_answer(self):
        """Take QEMU's answer to the oldest miss that has none."""
        _, _, body, _ = self._receive(self._back)
        self._answered += 1
        if U64.unpack(body)[0]:
            self._refusals.add(self._answered)

    def _access(self, iova, size, data=None, queue=True):
        """Read, or write data, at an address of the device; one translation after the other."""
        done = b""
        place = 0
        while place < size:
            have, cached = self._translation(iova + place, READ if data is None else WRITE)
            length = min(size - place, have.last + 1 - iova - place)
            user = have.user + iova + place - have.iova
            region = self._region(user)
            start = region.offset + user - region.user
            if data is None:
                done += region.map[start:start + length]
            else:
                region.map[start:start + length] = data[place:place + length]
            self._log("vhost_access", iova=iova + place, size=length,
                      memory=region.memory + user - region.user, write=int(data is not None),
                      cached=int(cached), queue=int(queue))
            place += length
        return done

    def _unpack(self, form, iova):
        """Read a structure of the queue."""
        return form.unpack(self._access(iova, form.size))

    # --- requests ---

    def _fetch(self):
        """Take the requests that the driver has announced."""
        queue = self._queue
        if queue.used is None:
            queue.used = self._unpack(RING, queue.used_ring)[1]
        _, index = self._unpack(RING, queue.available)
        if (index - queue.next & 0xffff) > queue.size:
            raise VhostError(f"available index {index} after {queue.next}")
        while queue.next != index:
            place = queue.available + RING.size + 2 * (queue.next % queue.size)
            head, = struct.unpack("<H", self._access(place, 2))
            self._pending.append(self._chain(head))
            queue.next = queue.next + 1 & 0xffff
            self._log("vhost_taken", head=head)

    def _chain(self, head):
        """Read the descriptors of a request."""
        buffers = {False: [], True: []}
        table, size, number, count = self._queue.descriptors, self._queue.size, head, 0
        while True:
            if number >= size or count >= size:
                raise VhostError(f"the descriptors from {head} on lead nowhere")
            iova, length, flags, following = self._unpack(DESCRIPTOR,
                                                          table + DESCRIPTOR.size * number)
            if flags & INDIRECT:
                table, size, number, count = iova, length // DESCRIPTOR.size, 0, 0
                continue
            buffers[bool(flags & WRITABLE)].append((iova, length))
            if not flags & NEXT:
                return Chain(head, tuple(buffers[False]), tuple(buffers[True]))
            number, count = following, count + 1

    def _complete(self):
        """Do the oldest request, and tell the driver."""
        queue = self._queue
        chain = self._pending[0]
        kind, sector, size, status, length = self._do(chain)
        place = queue.used_ring + RING.size + USED.size * (queue.used % queue.size)
        self._access(place, USED.size, USED.pack(chain.head, length))
        queue.used = queue.used + 1 & 0xffff
        self._access(queue.used_ring + 2, 2, struct.pack("<H", queue.used))
        self._pending.popleft()
        self._log("vhost_done", head=chain.head, type=kind, sector=sector, size=size,
                  status=status)
        # That the index was written before this is read is the log's doing: it took a lock.
        if not self._unpack(RING, queue.available)[0] & NO_INTERRUPT and queue.call is not None:
            os.eventfd_write(queue.call, 1)

    def _do(self, chain):
        """Do a request; returns type, sector, size, status, and how much was written."""
        if not chain.writable:
            raise VhostError(f"request {chain.head} has no place for its status")
        kind = sector = size = 0
        try:
            header = self._gather(chain.readable, 0, REQUEST.size)
            kind, _, sector = REQUEST.unpack(header)
            size, status = self._move(chain, kind, sector * SECTOR)
        except _Refused:
            status = IOERR
        iova, length = chain.writable[-1]
        with contextlib.suppress(_Refused):
            self._access(iova + length - 1, 1, bytes([status]), queue=False)
        return kind, sector, size, status, 1 + (size if kind in (IN, GET_ID) else 0)

    def _move(self, chain, kind, place):
        """Move a request's data; returns how much, and the status."""
        into = sum(length for _, length in chain.writable) - 1
        out = sum(length for _, length in chain.readable) - REQUEST.size
        if kind == FLUSH:
            return 0, OK
        if kind == GET_ID:
            self._scatter(chain.writable, self.device.encode()[:ID_BYTES].ljust(into, b"\0"))
            return into, OK
        if kind not in (IN, OUT):
            return 0, UNSUPP
        size = into if kind == IN else out
        if place + size > len(self.data) or size % SECTOR:
            return 0, IOERR
        if kind == IN:
            self._scatter(chain.writable, self.data[place:place + size])
        else:
            self.data[place:place + size] = self._gather(chain.readable, REQUEST.size, size)
        return size, OK

    def _gather(self, buffers, skip, size):
        """Read from a request's buffers, after some bytes of them."""
        found = b""
        for iova, length in buffers:
            wanted = min(length - skip, size - len(found))
            if wanted > 0:
                found += self._access(iova + skip, wanted, queue=False)
            skip = max(skip - length, 0)
        if len(found) < size:
            raise VhostError("a request is too short")
        return found

    def _scatter(self, buffers, data):
        """Write to a request's buffers."""
        for iova, length in buffers:
            part, data = data[:length], data[length:]
            if part:
                self._access(iova, len(part), part, queue=False)
