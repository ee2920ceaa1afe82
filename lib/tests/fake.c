// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A small live update of its own: as much of LUO, iommufd and VFIO as the library
 * can see, with the kernel's errors, and any call can be made to fail.
 *
 * Files are memfds, known by their inodes whichever descriptor they come by. A
 * session is one end of a socket pair: that its last descriptor was closed shows
 * itself at the other end, before the next call is looked at.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/iommufd.h>
#include <linux/iommufd_liveupdate.h>
#include <linux/liveupdate.h>
#include <linux/vfio.h>
#include <linux/vfio_liveupdate.h>

#include "../internal.h"
#include "fake.h"

#define MAX 256
#define MAX_IRQS 8

enum type { MEMORY = 1, LUO, SESSION, IOMMUFD, DEVICE };

struct file {
	enum type type;
	dev_t dev;
	ino_t ino;
	bool preserved;
	/* an iommufd's last number */
	uint32_t last_id;
	/* a device */
	char bdf[LU_BDF_SIZE];
	struct file *iommufd;
	uint32_t id;
	uint32_t hwpt;
	uint32_t mode;
	bool incoming;
	bool idle_only;
	bool no_reset;
	int32_t eventfds[MAX_IRQS];
	uint32_t irqs;
};

struct object {
	struct file *iommufd;
	bool hwpt;
	uint32_t id;
	uint32_t ioas;
	bool marked;
	bool restored;
	uint64_t token;
};

struct mapping {
	struct file *iommufd;
	uint32_t ioas;
	uint64_t iova;
};

struct entry {
	uint64_t token;
	struct file *file;
	int fd;
	bool retrieved;
};

struct session {
	bool used;
	bool incoming;
	char name[LU_SESSION_NAME_SIZE];
	struct file *file;
	int peer;
	int count;
	struct entry entries[MAX];
};

int fake_fail_at;
int fake_calls;
int fake_last_error = EIO;
bool fake_keep;
int fake_kept = -1;

static struct file files[MAX];
static struct object objects[MAX];
static struct mapping mappings[MAX];
static struct session sessions[8];

/* --- files ------------------------------------------------------------------ */

static struct file *file_of(int fd)
{
	struct stat st;
	int i;

	if (fstat(fd, &st))
		return NULL;
	for (i = 0; files[i].type; i++)
		if (files[i].ino == st.st_ino && files[i].dev == st.st_dev)
			return &files[i];
	CHECK(i < MAX - 1);
	files[i] = (struct file){
		.type = MEMORY,
		.dev = st.st_dev,
		.ino = st.st_ino,
	};
	return &files[i];
}

static int file_new(enum type type)
{
	int fd = memfd_create("fake", MFD_CLOEXEC);

	CHECK(fd >= 0);
	file_of(fd)->type = type;
	return fd;
}

/* A file of this type, or NULL with the errno that an ioctl would give. */
static struct file *get(int fd, enum type type, int *err)
{
	struct file *file = file_of(fd);

	*err = file ? -ENOTTY : -EBADF;
	return file && file->type == type ? file : NULL;
}

static struct object *object_get(const struct file *iommufd, uint32_t id)
{
	for (struct object *o = objects; iommufd && o < objects + MAX; o++)
		if (o->iommufd == iommufd && o->id == id)
			return o;
	return NULL;
}

static uint32_t object_new(struct file *iommufd, bool hwpt, uint32_t ioas)
{
	struct object *o = objects;

	while (o->iommufd)
		CHECK(++o < objects + MAX);
	*o = (struct object){ .iommufd = iommufd,
			      .hwpt = hwpt,
			      .id = ++iommufd->last_id,
			      .ioas = ioas };
	return o->id;
}

/* --- sessions --------------------------------------------------------------- */

static void session_drop(struct session *s)
{
	for (int i = 0; i < s->count; i++) {
		struct file *file = s->entries[i].file;

		file->preserved = false;
		file->mode = 0;
		file->incoming = false;
		close(s->entries[i].fd);
	}
	if (s->peer >= 0)
		close(s->peer);
	*s = (struct session){};
}

static bool session_can_finish(const struct session *s)
{
	for (int i = 0; i < s->count; i++) {
		const struct file *file = s->entries[i].file;
		const struct object *pt;

		if (file->type != DEVICE)
			continue;
		pt = object_get(file->iommufd, file->hwpt);
		if (!s->entries[i].retrieved ||
		    (file->mode == LU_MODE_RUNNING && (!pt || pt->restored)))
			return false;
	}
	return true;
}

/* See which sessions nobody has open any more. */
static void sessions_reap(void)
{
	for (struct session *s = sessions; s < sessions + 8; s++) {
		struct pollfd p = { .fd = s->peer, .events = POLLIN };

		if (!s->used || s->peer < 0 || poll(&p, 1, 0) <= 0)
			continue;
		if (!s->incoming || session_can_finish(s)) {
			session_drop(s);
			continue;
		}
		close(s->peer);
		s->peer = -1;
	}
}

static struct session *session_of(int fd, int *err)
{
	const struct file *file = get(fd, SESSION, err);

	for (struct session *s = sessions; file && s < sessions + 8; s++)
		if (s->used && s->peer >= 0 && s->file == file)
			return s;
	return NULL;
}

static int session_open(struct session *s)
{
	int pair[2];

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	s->file = file_of(pair[0]);
	s->file->type = SESSION;
	s->peer = pair[1];
	return pair[0];
}

static struct session *session_named(const char *name, bool incoming)
{
	for (struct session *s = sessions; s < sessions + 8; s++)
		if (s->used && s->incoming == incoming &&
		    !strcmp(s->name, name))
			return s;
	return NULL;
}

static int session_create(struct liveupdate_ioctl_create_session *call)
{
	struct session *s = sessions;

	if (session_named((char *)call->name, false))
		return -EEXIST;
	while (s->used)
		CHECK(++s < sessions + 8);
	*s = (struct session){ .used = true };
	strcpy(s->name, (char *)call->name);
	call->fd = session_open(s);
	return 0;
}

static int session_retrieve(struct liveupdate_ioctl_retrieve_session *call)
{
	struct session *s = session_named((char *)call->name, true);

	if (!s || s->peer >= 0)
		return s ? -EINVAL : -ENOENT;
	call->fd = session_open(s);
	return 0;
}

/* What a kind of file has to be for it, and what becomes of it. */
static int preserve_file(struct file *file)
{
	const struct object *pt = object_get(file->iommufd, file->hwpt);
	bool marked = false;

	if (file->preserved)
		return -EBUSY;
	for (struct object *o = objects; o < objects + MAX; o++)
		marked |= o->iommufd == file && o->marked;
	if (file->type == IOMMUFD && !marked)
		return -EINVAL;
	if (file->type == DEVICE && !file->iommufd)
		return -EINVAL;
	if (file->type == DEVICE)
		file->mode = pt && pt->marked && file->iommufd->preserved &&
					     !file->idle_only ?
				     LU_MODE_RUNNING :
				     LU_MODE_IDLE;
	file->preserved = true;
	return 0;
}

static int session_preserve(struct session *s,
			    const struct liveupdate_session_preserve_fd *call)
{
	struct file *file = file_of(call->fd);
	int ret;

	for (int i = 0; i < s->count; i++)
		if (s->entries[i].token == call->token)
			return -EEXIST;
	if (!file)
		return -EBADF;
	if (s->incoming)
		return -EINVAL;
	if (file->type == LUO || file->type == SESSION)
		return -ENOENT;
	ret = preserve_file(file);
	if (ret)
		return ret;
	CHECK(s->count < MAX);
	s->entries[s->count++] = (struct entry){ .token = call->token,
						 .file = file,
						 .fd = dup(call->fd) };
	return 0;
}

static int session_retrieve_fd(struct session *s,
			       struct liveupdate_session_retrieve_fd *call)
{
	if (!s->incoming)
		return -EINVAL;
	for (int i = 0; i < s->count; i++) {
		if (s->entries[i].token != call->token)
			continue;
		s->entries[i].retrieved = true;
		call->fd = fcntl(s->entries[i].fd, F_DUPFD_CLOEXEC, 0);
		return 0;
	}
	return -ENOENT;
}

static int session_finish(struct session *s)
{
	if (!s->incoming)
		return -EINVAL;
	if (!session_can_finish(s))
		return -EBUSY;
	for (int i = 0; i < s->count; i++) {
		s->entries[i].file->preserved = false;
		s->entries[i].file->mode = 0;
		s->entries[i].file->incoming = false;
		close(s->entries[i].fd);
	}
	s->count = 0;
	return 0;
}

static int session_ioctl(int fd, unsigned long request, void *arg)
{
	struct liveupdate_session_get_name *name = arg;
	int err;
	struct session *s = session_of(fd, &err);

	if (!s)
		return err;
	switch (request) {
	case LIVEUPDATE_SESSION_PRESERVE_FD:
		return session_preserve(s, arg);
	case LIVEUPDATE_SESSION_RETRIEVE_FD:
		return session_retrieve_fd(s, arg);
	case LIVEUPDATE_SESSION_FINISH:
		return session_finish(s);
	default:
		strcpy((char *)name->name, s->name);
		return 0;
	}
}

/* --- iommufds --------------------------------------------------------------- */

static int ioas_map(struct file *iommufd,
		    const struct iommu_ioas_map_file *call)
{
	struct mapping *m = mappings;

	if (iommufd->preserved && !iommufd->incoming)
		return -EBUSY;
	if (!object_get(iommufd, call->ioas_id))
		return -ENOENT;
	if (!file_of(call->fd))
		return -EBADF;
	for (; m->iommufd; m++)
		if (m->iommufd == iommufd && m->ioas == call->ioas_id &&
		    m->iova == call->iova)
			return -EEXIST;
	CHECK(m < mappings + MAX - 1);
	*m = (struct mapping){ iommufd, call->ioas_id, call->iova };
	return 0;
}

static int hwpt_mark(struct file *iommufd,
		     const struct iommu_hwpt_liveupdate_mark *call)
{
	struct object *pt = object_get(iommufd, call->hwpt_id);
	bool unmark = call->flags & IOMMU_HWPT_LIVEUPDATE_UNMARK;

	if (!pt || !pt->hwpt)
		return -ENOENT;
	if (iommufd->preserved && !iommufd->incoming)
		return -EBUSY;
	if (unmark && (!pt->marked || pt->token != call->token))
		return -ENOENT;
	if (!unmark && pt->marked)
		return -EEXIST;
	for (struct object *o = objects; !unmark && o < objects + MAX; o++)
		if (o->iommufd == iommufd && o->marked &&
		    o->token == call->token)
			return -EEXIST;
	pt->marked = !unmark;
	pt->token = call->token;
	return 0;
}

static int hwpt_find(struct file *iommufd,
		     struct iommu_hwpt_liveupdate_find *call)
{
	for (struct object *o = objects; o < objects + MAX; o++) {
		if (o->iommufd != iommufd || !o->restored ||
		    o->token != call->token)
			continue;
		call->out_hwpt_id = o->id;
		return 0;
	}
	return -ENOENT;
}

/* How many page tables can track dirty pages. */
int fake_dirty;

static int hwpt_alloc(struct file *iommufd, struct iommu_hwpt_alloc *call)
{
	const struct object *ioas = object_get(iommufd, call->pt_id);
	bool device = false;

	for (struct file *f = files; f->type; f++)
		device |= f->type == DEVICE && f->iommufd == iommufd &&
			  f->id == call->dev_id;
	if (!device || !ioas || ioas->hwpt)
		return -ENOENT;
	fake_dirty += !!(call->flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
	call->out_hwpt_id = object_new(iommufd, true, call->pt_id);
	return 0;
}

static int iommufd_ioctl(int fd, unsigned long request, void *arg)
{
	struct iommu_ioas_alloc *ioas = arg;
	int err;
	struct file *iommufd = get(fd, IOMMUFD, &err);

	if (!iommufd)
		return err;
	switch (request) {
	case IOMMU_IOAS_ALLOC:
		ioas->out_ioas_id = object_new(iommufd, false, 0);
		return 0;
	case IOMMU_IOAS_MAP_FILE:
		return ioas_map(iommufd, arg);
	case IOMMU_HWPT_ALLOC:
		return hwpt_alloc(iommufd, arg);
	case IOMMU_GET_HW_INFO:
		((struct iommu_hw_info *)arg)->out_capabilities =
			IOMMU_HW_CAP_DIRTY_TRACKING;
		return 0;
	case IOMMU_HWPT_LIVEUPDATE_MARK:
		return hwpt_mark(iommufd, arg);
	default:
		return hwpt_find(iommufd, arg);
	}
}

/* --- devices ---------------------------------------------------------------- */

/* A device that crossed running is on its restored page table. */
static int device_bind(struct file *dev, struct vfio_device_bind_iommufd *call)
{
	int err;
	struct file *iommufd = get(call->iommufd, IOMMUFD, &err);

	if (!iommufd)
		return err;
	if (dev->iommufd)
		return -EINVAL;
	dev->iommufd = iommufd;
	dev->id = ++iommufd->last_id;
	for (struct object *o = objects; o < objects + MAX; o++)
		if (dev->incoming && dev->mode == LU_MODE_RUNNING &&
		    o->iommufd == iommufd && o->restored &&
		    o->ioas == dev->hwpt)
			dev->hwpt = o->id;
	call->out_devid = dev->id;
	return 0;
}

/* The kernel makes a page table for who attaches to an IOAS. */
static int device_attach(struct file *dev,
			 struct vfio_device_attach_iommufd_pt *call)
{
	struct object *pt = object_get(dev->iommufd, call->pt_id), *old;
	bool used = false;

	if (!dev->iommufd)
		return -EINVAL;
	if (!pt)
		return -ENOENT;
	if (dev->preserved && !dev->incoming && dev->mode == LU_MODE_RUNNING)
		return -EBUSY;
	old = object_get(dev->iommufd, dev->hwpt);
	dev->hwpt = pt->hwpt ? pt->id : object_new(dev->iommufd, true, pt->id);
	call->pt_id = dev->hwpt;
	for (struct file *f = files; f->type; f++)
		used |= old && f->type == DEVICE && f->hwpt == old->id &&
			f->iommufd == old->iommufd;
	if (old && old->restored && !used)
		*old = (struct object){};
	return 0;
}

static int device_feature(struct file *dev, struct vfio_device_feature *call)
{
	struct vfio_device_feature_liveupdate info = {
		.modes = LU_MODE_IDLE | (dev->idle_only ? 0 : LU_MODE_RUNNING),
		.mode = dev->mode,
		.state = dev->incoming	? LU_STATE_INCOMING :
			 dev->preserved ? LU_STATE_OUTGOING :
					  LU_STATE_NONE,
	};

	if (!dev->iommufd)
		return -EINVAL;
	if ((call->flags & VFIO_DEVICE_FEATURE_MASK) ==
	    VFIO_DEVICE_FEATURE_DMA_BUF)
		return file_new(MEMORY);
	memcpy(call->data, &info, sizeof(info));
	return 0;
}

/* A neighbour that nobody has, then the device itself. */
static int device_reset_info(struct file *dev,
			     struct vfio_pci_hot_reset_info *call)
{
	uint32_t segment;
	uint16_t bdf;

	if (!dev->iommufd || dev->no_reset)
		return dev->iommufd ? -ENODEV : -EINVAL;
	call->count = 2;
	if (call->argsz < sizeof(*call) + 2 * sizeof(call->devices[0]))
		return -ENOSPC;
	CHECK(!lu_bdf_parse(dev->bdf, &segment, &bdf));
	call->flags = VFIO_PCI_HOT_RESET_FLAG_DEV_ID;
	call->devices[0].devid = VFIO_PCI_DEVID_NOT_OWNED;
	call->devices[0].devfn = (bdf & 0xff) ^ 1;
	call->devices[1].devid = dev->id;
	call->devices[1].segment = segment;
	call->devices[1].bus = bdf >> 8;
	call->devices[1].devfn = bdf & 0xff;
	return 0;
}

/* Arm vectors, or signal those that are armed, or turn all of them off. */
static int device_irqs(struct file *dev, struct vfio_irq_set *call)
{
	const uint64_t one = 1;

	if (!dev->iommufd || call->count > MAX_IRQS)
		return -EINVAL;
	CHECK(call->flags & VFIO_IRQ_SET_ACTION_TRIGGER);
	if (call->flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		CHECK(call->argsz == sizeof(*call) + call->count * 4);
		memcpy(dev->eventfds, call->data, call->count * 4);
		dev->irqs = call->count;
	} else if (!call->count) {
		dev->irqs = 0;
	} else {
		CHECK(call->count == dev->irqs);
		for (uint32_t i = 0; i < dev->irqs; i++)
			CHECK(dev->eventfds[i] < 0 ||
			      write(dev->eventfds[i], &one, 8) == 8);
	}
	return 0;
}

/* How many interrupts a device has on. */
int fake_count_irqs(int device)
{
	int err;
	struct file *dev = get(device, DEVICE, &err);

	return dev ? (int)dev->irqs : err;
}

static int device_ioctl(int fd, unsigned long request, void *arg)
{
	int err;
	struct file *dev = get(fd, DEVICE, &err);

	if (!dev)
		return err;
	switch (request) {
	case VFIO_DEVICE_BIND_IOMMUFD:
		return device_bind(dev, arg);
	case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
		return device_attach(dev, arg);
	case VFIO_DEVICE_FEATURE:
		return device_feature(dev, arg);
	case VFIO_DEVICE_SET_IRQS:
		return device_irqs(dev, arg);
	default:
		return device_reset_info(dev, arg);
	}
}

/* --- what the library calls ------------------------------------------------- */

static bool fails(void)
{
	sessions_reap();
	return ++fake_calls == fake_fail_at;
}

int lu_ioctl(int fd, unsigned long request, void *arg)
{
	int err;

	if (fails()) {
		if (fake_keep)
			fake_kept = dup(fd);
		return -fake_last_error;
	}
	switch (_IOC_TYPE(request)) {
	case IOMMUFD_TYPE:
		/* VFIO's type is the same, its numbers are smaller */
		if (_IOC_NR(request) < IOMMUFD_CMD_BASE)
			return device_ioctl(fd, request, arg);
		return iommufd_ioctl(fd, request, arg);
	default:
		if (_IOC_NR(request) >= LIVEUPDATE_CMD_SESSION_BASE)
			return session_ioctl(fd, request, arg);
		if (!get(fd, LUO, &err))
			return err;
		return request == LIVEUPDATE_IOCTL_CREATE_SESSION ?
			       session_create(arg) :
			       session_retrieve(arg);
	}
}

int lu_open_file(const char *path)
{
	if (fails())
		return -fake_last_error;
	return file_new(strcmp(path, "/dev/iommu") ? LUO : IOMMUFD);
}

FILE *lu_open_fdinfo(int fd)
{
	const struct file *file = file_of(fd);
	FILE *info;

	if (!file) {
		errno = EBADF;
		return NULL;
	}
	info = tmpfile();
	CHECK(info);
	fprintf(info, "pos:\t0\n");
	if (file->type == DEVICE)
		fprintf(info, "vfio-device-syspath: /sys/devices/x/%s\n",
			file->bdf);
	rewind(info);
	return info;
}

/* --- what the tests call ---------------------------------------------------- */

/* A device's file, as opened from its character device. */
int fake_device(const char *bdf)
{
	int fd = file_new(DEVICE);

	snprintf(file_of(fd)->bdf, LU_BDF_SIZE, "%s", bdf);
	return fd;
}

/* This device never crosses in running mode. */
void fake_make_idle(int device)
{
	file_of(device)->idle_only = true;
}

/* This device's bus cannot be reset. */
void fake_refuse_reset(int device)
{
	file_of(device)->no_reset = true;
}

/* A page table that is marked and preserved becomes a restored one. */
static void object_jump(struct object *o)
{
	if (!o->iommufd)
		return;
	if (!o->marked || !o->iommufd->preserved) {
		*o = (struct object){};
		return;
	}
	/* What it was called before tells whose it is */
	o->ioas = o->id;
	o->id = ++o->iommufd->last_id;
	o->marked = false;
	o->restored = true;
}

/* The next kernel: the tests have closed what is theirs. */
void fake_jump(void)
{
	sessions_reap();
	memset(mappings, 0, sizeof(mappings));
	for (struct object *o = objects; o < objects + MAX; o++)
		object_jump(o);
	for (struct file *f = files; f->type; f++) {
		f->incoming = f->preserved;
		f->iommufd = NULL;
		f->id = 0;
		if (f->mode != LU_MODE_RUNNING)
			f->hwpt = 0;
	}
	for (struct session *s = sessions; s < sessions + 8; s++) {
		if (!s->used)
			continue;
		if (s->incoming) {
			session_drop(s);
			continue;
		}
		s->incoming = true;
		close(s->peer);
		s->peer = -1;
	}
}

/* How many files are preserved for the next kernel, or were for this one? */
int fake_count_preserved(void)
{
	int count = 0;

	sessions_reap();
	for (struct file *f = files; f->type; f++)
		count += f->preserved;
	return count;
}

int fake_count_marks(void)
{
	int count = 0;

	for (struct object *o = objects; o < objects + MAX; o++)
		count += o->iommufd && o->marked;
	return count;
}

int fake_count_mapped(int iommufd, uint32_t ioas)
{
	int count = 0;

	for (struct mapping *m = mappings; m->iommufd; m++)
		count += m->iommufd == file_of(iommufd) && m->ioas == ioas;
	return count;
}

/* Is a device attached to a page table of this kernel? To which? */
int fake_attached(int device, uint32_t *hwpt)
{
	const struct file *dev = file_of(device);
	const struct object *pt = object_get(dev->iommufd, dev->hwpt);

	*hwpt = dev->hwpt;
	return dev->iommufd && pt && !pt->restored;
}

/* Forget everything. */
void fake_reset(void)
{
	for (struct session *s = sessions; s < sessions + 8; s++)
		if (s->used)
			session_drop(s);
	memset(files, 0, sizeof(files));
	memset(objects, 0, sizeof(objects));
	memset(mappings, 0, sizeof(mappings));
	fake_fail_at = 0;
	fake_calls = 0;
	fake_last_error = EIO;
	fake_keep = false;
}
