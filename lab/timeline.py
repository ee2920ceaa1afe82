# SPDX-License-Identifier: GPL-2.0-only
"""When a device did DMA: the moments, the gaps between them, from QEMU's trace.

An NVMe drive's completions carry the number of their queue, a network controller's frames the
address that they were written to: that is how DMA of several devices is told apart. So each
drive of a machine has to have an I/O queue with a number of its own (nvme_start ... QUEUE), and
each controller memory of its own.

QEMU's events of a virtio device have neither, only the place in QEMU's memory where that device is.
That is the same from QEMU's start to its end, over any kexec, and virtio_device() learns it.
"""

import bisect
import itertools
import statistics

PARTS = 10


class Timeline:
    """The moments, in their order, at which a device did something."""

    def __init__(self, times):
        """Take the moments."""
        self.times = sorted(times)

    def within(self, since, until):
        """Return the moments of a span of time."""
        return self.times[bisect.bisect_left(self.times, since):
                          bisect.bisect_right(self.times, until)]

    def intervals(self, since, until):
        """Return how long each pause was that touches a span, cut off at the span's ends."""
        edges = [since, *self.within(since, until), until]
        return [later - earlier for earlier, later in itertools.pairwise(edges)]

    def longest_gap(self, since, until):
        """Return the longest time within a span in which nothing happened."""
        return max(self.intervals(since, until))

    def median(self, since, until):
        """Return the usual time between two moments of a span."""
        moments = self.within(since, until)
        if len(moments) < 2:
            raise ValueError(f"{len(moments)} moments have no intervals")
        return statistics.median(later - earlier
                                 for earlier, later in itertools.pairwise(moments))

    def parts(self, since, until, count=PARTS):
        """Return how many moments there are in each of the equal parts of a span."""
        edges = [since + i * (until - since) / count for i in range(count + 1)]
        return [len(self.within(edges[i], edges[i + 1])) for i in range(count)]

    def faults(self, since, until, most=10):
        """Return what is wrong with a span: a part in which nothing happened, or a long gap."""
        wrong = [f"nothing in part {i + 1} of {PARTS}"
                 for i, moments in enumerate(self.parts(since, until)) if not moments]
        moments = self.within(since, until)
        if len(moments) > 2:
            median, gap = self.median(since, until), self.longest_gap(since, until)
            if gap > most * median:
                wrong.append(f"a gap of {gap * 1000:.0f} ms, over {most} times the median interval"
                             f" of {median * 1000:.1f} ms")
        return wrong


def completions(events, queue):
    """Return the timeline of the commands of an NVMe I/O queue."""
    return Timeline(event.time for event in events
                    if event.name == "pci_nvme_enqueue_req_completion"
                    and event.fields["cqid"] == queue)


def virtio_device(events):
    """Return where in QEMU's memory a virtio device is, from the events of its driver's start.

    All through its start a driver says how far it is (device_status). There must be no other one
    that starts or stops a virtio device meanwhile.
    """
    places = {event.fields["vdev"] for event in events if event.name == "virtio_set_status"}
    if len(places) != 1:
        raise ValueError(f"{len(places)} virtio devices were started, not one")
    return places.pop()


def virtio_completions(events, vdev):
    """Return the timeline of the requests of a virtio block device, see virtio_device()."""
    return Timeline(event.time for event in events if event.name == "virtio_blk_req_complete"
                    and event.fields["vdev"] == vdev)


def virtio_queue(events, vdev):
    """Return where in QEMU's memory the first queue of a virtio device is, which was notified."""
    return next(event.fields["vq"] for event in events if event.name == "virtio_queue_notify"
                and event.fields["vdev"] == vdev and not event.fields["n"])


def virtio_uses(events, queue):
    """Return the timeline of what a virtio device gave back in a queue, see virtio_queue()."""
    return Timeline(event.time for event in events if event.name == "virtqueue_flush"
                    and event.fields["vq"] == queue)


def frames(events, iova, size):
    """Return the timeline of the frames that a controller wrote to some memory."""
    return Timeline(event.time for event in events if event.name == "igb_rx_desc_buff_write"
                    and iova <= event.fields["addr"] < iova + size)
