/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libliveupdate: VFIO devices and their memory across a live update of Linux.
 */
#ifndef LIBLIVEUPDATE_H
#define LIBLIVEUPDATE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * DOC: What the library is for
 *
 * A process that owns PCI devices through VFIO (a VMM, a user-space driver) hands
 * them to its successor in the next kernel. In running mode the devices go on
 * with their DMA all the time; in idle mode they are reset on the way.
 *
 * There are two levels. The functions for sessions, devices and iommufds are
 * one system call each, with names and errors. A *set* stands on these: all that
 * belongs together (memory, iommufds with their address spaces and page tables,
 * devices), preserved in the right order or not at all, with a manifest that
 * tells the next process what there is, so that it gets everything back, maps it
 * again and hands the devices over to its own page tables in one call.
 *
 * In the outgoing kernel: lu_set_new(), lu_set_add_memory() and its likes,
 * lu_set_preserve(). In the incoming one: lu_session_retrieve(), lu_set_open(),
 * lu_set_take_over(), lu_set_find(). The set can then be preserved again.
 *
 * Errors: every function that can fail returns a negative errno. "As of" a
 * system call means that the kernel's errno is passed on; docs/uapi.md says what
 * each of them means. A file that is not open gives -EBADF, one of another kind
 * -ENOTTY, or -EINVAL where the kernel says so. On an error nothing is changed,
 * unless it says otherwise.
 *
 * Threads: the library has no global state. Functions on file descriptors can be
 * called from any thread at any time. A set is used by one thread at a time;
 * different sets do not know of each other. None is safe in a signal handler, and
 * all may sleep.
 *
 * File descriptors that the library makes are close-on-exec. It prints nothing,
 * and keeps no file open but those of sets.
 */

/* --- sessions of the Live Update Orchestrator ------------------------------- */

/* The longest session name, with its terminating NUL. */
#define LU_SESSION_NAME_SIZE 64

/**
 * lu_open() - open /dev/liveupdate
 *
 * One process at a time can have it open: open it, make or retrieve sessions,
 * and close it. Sessions live on without it.
 *
 * Context: any thread.
 * Return: a file descriptor, which the caller closes, or a negative errno:
 * -EBUSY: another process has it open; -ENOENT: this kernel has no Live Update
 * Orchestrator, or it is not turned on (liveupdate=on); -EIO: what the previous
 * kernel handed over cannot be read; -EACCES, -EMFILE, -ENFILE, -ENOMEM as of
 * open(2).
 */
int lu_open(void);

/**
 * lu_session_create() - make an empty session for the next kernel
 * @luo: from lu_open()
 * @name: 1 to 63 bytes, by which the next kernel's user asks for it
 *
 * What is put into the session is preserved until its last file descriptor is
 * closed, and crosses when the machine jumps into the next kernel before that.
 *
 * Context: any thread.
 * Return: a file descriptor, which the caller closes, or a negative errno:
 * -EINVAL: @name is empty or too long; -EEXIST: there is a session of this name;
 * -EBADF, -ENOTTY: @luo is not from lu_open(); -ENOMEM, -EMFILE, -ENFILE.
 */
int lu_session_create(int luo, const char *name);

/**
 * lu_session_retrieve() - get a session that the previous kernel handed over
 * @luo: from lu_open()
 * @name: its name
 *
 * Closing the file descriptor finishes the session if it can be finished, or
 * else lets somebody else retrieve it.
 *
 * Context: any thread.
 * Return: a file descriptor, which the caller closes, or a negative errno:
 * -ENOENT: no such session; -EINVAL: somebody has it, or @name is empty or too
 * long; -EBADF, -ENOTTY: @luo is not from lu_open(); -ENOMEM, -EMFILE, -ENFILE.
 */
int lu_session_retrieve(int luo, const char *name);

/**
 * lu_session_name() - ask for a session's name
 * @session: any session
 * @name: where to put it, NUL-terminated
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -EBADF, -ENOTTY, -EINVAL: not a session.
 */
int lu_session_name(int session, char name[LU_SESSION_NAME_SIZE]);

/**
 * lu_session_preserve() - put a file into a session
 * @session: from lu_session_create()
 * @fd: a memfd, an iommufd with marked page tables, or a bound VFIO device
 * @token: its name in the session; LU_MANIFEST_TOKEN is that of a set's manifest
 *
 * The file stays open and preserved until the session is closed, whatever
 * becomes of @fd. There is no call that takes a single file out again.
 *
 * Context: any thread. Takes as long as it takes to look at each page of the
 * memory.
 * Return: 0, or a negative errno: -EEXIST: @token is in use; -EBUSY: the file is
 * preserved already; -ENOENT: this kernel cannot preserve such a file; -EBADF:
 * @fd is not open; -EINVAL: @session was retrieved, or the file is not ready
 * (docs/uapi.md); -EBADF, -ENOTTY: @session is no session; -ENOSPC, -ENOMEM and
 * what docs/uapi.md lists for each kind of file.
 */
int lu_session_preserve(int session, int fd, uint64_t token);

/**
 * lu_session_retrieve_fd() - get a file out of a session
 * @session: from lu_session_retrieve()
 * @token: its name in the session
 *
 * The same file again when it is called again.
 *
 * Context: any thread.
 * Return: a file descriptor, which the caller closes, or a negative errno:
 * -ENOENT: no such token, or the module that handles the file is missing;
 * -ENODEV: the device is not there any more; -EINVAL: @session was not retrieved,
 * or this kernel cannot take the file over; -EBADF, -ENOTTY: @session is no
 * session; -ENOMEM, -EMFILE, -ENFILE. All but -EMFILE, -ENFILE and a missing
 * module are final: the kernel gives the same error for ever.
 */
int lu_session_retrieve_fd(int session, uint64_t token);

/**
 * lu_session_finish() - end the handover of a session
 * @session: from lu_session_retrieve()
 *
 * From here on its files are like any others.
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -EBUSY: a device was not retrieved, or uses
 * its restored page table; -ENOENT: the module that handles a file is missing;
 * -EINVAL: @session was not retrieved; -EBADF, -ENOTTY: it is no session.
 */
int lu_session_finish(int session);

/* --- VFIO devices ----------------------------------------------------------- */

/* An address like 0000:01:00.0, with its terminating NUL. */
#define LU_BDF_SIZE 20

/**
 * lu_device_open() - open a PCI device's VFIO character device
 * @bdf: its address, like 0000:01:00.0
 *
 * Context: any thread.
 * Return: a file descriptor, which the caller closes, or a negative errno:
 * -EINVAL: @bdf is not such an address; -ENOENT: no such device, or it is not
 * bound to a VFIO driver that has character devices; -EBUSY: it was handed over
 * and waits for its session to be finished; -EACCES, -EMFILE, -ENFILE, -ENODEV,
 * -ENOMEM as of open(2).
 */
int lu_device_open(const char *bdf);

/**
 * lu_device_bdf() - ask whose file this is
 * @device: file of a VFIO device, opened or retrieved
 * @bdf: where to put its PCI address, NUL-terminated
 *
 * Context: any thread. Reads /proc/self/fdinfo.
 * Return: 0, or a negative errno: -EBADF: @device is not open; -ENODEV: it is no
 * VFIO device's file, or that device is no PCI device; -ENOENT: /proc is missing;
 * -EMFILE, -ENFILE, -ENOMEM as of open(2).
 */
int lu_device_bdf(int device, char bdf[LU_BDF_SIZE]);

/**
 * lu_device_bind() - bind a device's file to an iommufd
 * @device: file of a VFIO device, opened from its character device or retrieved
 * @iommufd: iommufd; for a device in running mode the one that crossed with it
 * @dev_id: where to put the device's number in @iommufd
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -EINVAL: bound already (see lu_device_id());
 * -EPERM: another iommufd has the device's restored page table; -EACCES: a virtual
 * function, or a physical one whose virtual ones are in use, needs the VF token, which
 * VFIO_DEVICE_BIND_FLAG_TOKEN gives, unless the file was retrieved; -EBADF, -ENOTTY:
 * no VFIO device's file; -EBADF, -EBADFD: @iommufd is none; -EBUSY: the device is
 * in use; others as of VFIO_DEVICE_BIND_IOMMUFD.
 */
int lu_device_bind(int device, int iommufd, uint32_t *dev_id);

/**
 * lu_device_id() - ask for a bound device's number in its iommufd
 * @device: file of a VFIO device
 * @dev_id: where to put the number
 *
 * For a process that got the file from another one which had bound it.
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -ENOENT: it has none; -ENODEV: its bus cannot
 * be reset (a device of the root complex), and the kernel does not tell then;
 * -EINVAL: not bound; others as lu_device_bdf().
 */
int lu_device_id(int device, uint32_t *dev_id);

/**
 * lu_device_attach() - attach a device to a page table, in place of any other
 * @device: file of a VFIO device, bound to an iommufd
 * @pt_id: number of an HWPT, or of an IOAS for one that the kernel makes
 * @hwpt_id: where to put the number of the HWPT that it has then; or NULL
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -EBUSY: the device is preserved in running
 * mode; -ENOENT: no such page table; -EINVAL: it does not fit, or the file is not
 * bound; -EBADF, -ENOTTY: no VFIO device's file; others as of
 * VFIO_DEVICE_ATTACH_IOMMUFD_PT.
 */
int lu_device_attach(int device, uint32_t pt_id, uint32_t *hwpt_id);

/**
 * lu_device_export_bar() - make a dma-buf of a part of a BAR
 * @device: file of a VFIO device, bound to an iommufd
 * @bar: 0 to 5
 * @offset: in bytes, a multiple of the page size
 * @length: in bytes, a multiple of the page size
 *
 * To be mapped with lu_ioas_map_file(), for DMA from device to device.
 *
 * Context: any thread.
 * Return: a file descriptor, which the caller closes, or a negative errno:
 * -EINVAL: @bar, or the range is not in it; -ENODEV: the device has no such memory
 * BAR; -ENOTTY: this kernel cannot; -EBADF: no file; others as of
 * VFIO_DEVICE_FEATURE_DMA_BUF.
 */
int lu_device_export_bar(int device, uint32_t bar, uint64_t offset,
			 uint64_t length);

/* Kinds of a PCI device's interrupts, as VFIO numbers them. */
#define LU_IRQ_INTX 0U
#define LU_IRQ_MSI 1U
#define LU_IRQ_MSIX 2U

/* The most vectors that a device has (PCI Express 6.0, 7.7.2.2: Table Size). */
#define LU_IRQS_MAX 2048U

/**
 * lu_device_carry_irqs() - let interrupts that are on at the jump go along
 * @device: file of a VFIO device, bound to an iommufd
 * @carry: 1: interrupts that are on at the jump go along; 0: they refuse it
 *
 * Without this they have to be off at the jump. The device raises none from then on,
 * until they are armed in the next kernel, which signals each eventfd once then. This
 * has an effect in running mode only: in idle mode, or with INTx of a device before
 * PCI 2.3, they have to be off. It holds until the device is closed, also when this
 * process has ended and a session has the file, and does not cross.
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -ENOTTY: this kernel cannot, or @device is none;
 * -EINVAL: not bound; -EBADF: not open.
 */
int lu_device_carry_irqs(int device, int carry);

/**
 * struct lu_irqs - interrupts of a device that came in
 * @index: one of LU_IRQ_*
 * @count: more than the number of the last vector that had an eventfd
 * @intx_masked: INTx was masked, by its user or by VFIO because one was not handled
 * @reserved: 0
 * @armed: a bit for each vector that had an eventfd; bit 0 of the first word for
 *	   vector 0
 */
struct lu_irqs {
	uint32_t index;
	uint32_t count;
	uint32_t intx_masked;
	uint32_t reserved;
	uint64_t armed[LU_IRQS_MAX / 64];
};

/**
 * lu_device_irqs() - ask which interrupts came in with a device
 * @device: file of a VFIO device that was retrieved, bound to an iommufd
 * @irqs: where to put the answer
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -ENOENT: none were on; others as
 * lu_device_carry_irqs().
 */
int lu_device_irqs(int device, struct lu_irqs *irqs);

/**
 * lu_device_irqs_restore() - arm a device's interrupts, and signal each of them once
 * @device: file of a VFIO device, bound to an iommufd
 * @index: one of LU_IRQ_*
 * @eventfds: an eventfd for each vector from 0 on, or -1 for one that is not armed
 * @count: how many there are, 1 to %LU_IRQS_MAX; 1 for %LU_IRQ_INTX
 *
 * For a device that came out of a live update, in place of VFIO_DEVICE_SET_IRQS,
 * whether its interrupts were carried or off; if they were carried the kernel signals
 * them as well.
 * What the device signalled while its interrupts were off is gone, and it does not
 * signal it again. After this each eventfd is readable: whoever sleeps on it looks
 * at the device once, and finds what was done meanwhile. From then on events are
 * delivered as ever. So a program has to take an eventfd's signal as "look", not as
 * "there is one thing more", as with any interrupt that may be shared or merged.
 *
 * Context: any thread. Nobody else arms interrupts of the device meanwhile.
 * Return: 0, or a negative errno, and then none of these interrupts is on:
 * -EINVAL: @index, @count, more vectors than the device has, or interrupts of
 * another kind are on, and stay so; -EBADF: @device or an eventfd is not open;
 * -ENOTTY: @device is none; -EBUSY: no interrupt line; -ENOSPC, -ENOMEM: no
 * vectors; others as of VFIO_DEVICE_SET_IRQS.
 */
int lu_device_irqs_restore(int device, uint32_t index, const int32_t *eventfds,
			   uint32_t count);

/* Modes, bits of &struct lu_device_state.modes. */
#define LU_MODE_IDLE 1U
#define LU_MODE_RUNNING 2U

/* States of a device. */
#define LU_STATE_NONE 0U
#define LU_STATE_OUTGOING 1U
#define LU_STATE_INCOMING 2U

/* Why a device does not cross in running mode. */
#define LU_REASON_NONE 0U
#define LU_REASON_DEVICE 1U
#define LU_REASON_KERNEL 2U
#define LU_REASON_DOMAIN 3U

/**
 * struct lu_device_state - how a device can cross, does, and why not better
 * @modes: bits of LU_MODE_*: the modes that this kernel can preserve it in
 * @mode: the one that is in force, 0 in LU_STATE_NONE
 * @state: one of LU_STATE_*
 * @reason: one of LU_REASON_*: why it is not running mode, or would not be if
 *	    the device was preserved now
 * @error: the negative errno with which preserving it fails now because of what
 *	   it is, or 0
 */
struct lu_device_state {
	uint32_t modes;
	uint32_t mode;
	uint32_t state;
	uint32_t reason;
	int32_t error;
};

/**
 * lu_device_query() - ask how a device can cross and does
 * @device: file of a VFIO device, bound to an iommufd
 * @state: where to put the answer
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -ENOTTY: this kernel preserves no VFIO
 * devices, or @device is none; -EINVAL: not bound; -EBADF: not open.
 */
int lu_device_query(int device, struct lu_device_state *state);

/**
 * lu_mode_text() - name of a mode, as sysfs has it
 * @mode: one of LU_MODE_*, or 0
 *
 * Context: any.
 * Return: a constant string: "idle", "running", "none", or "unknown".
 */
const char *lu_mode_text(uint32_t mode);

/**
 * lu_reason_text() - a reason in words
 * @reason: one of LU_REASON_*
 *
 * Context: any.
 * Return: a constant string; one that says so for a reason that is not known.
 */
const char *lu_reason_text(uint32_t reason);

/* --- iommufds --------------------------------------------------------------- */

/**
 * lu_iommufd_open() - open /dev/iommu
 *
 * Context: any thread.
 * Return: a file descriptor, which the caller closes, or a negative errno:
 * -ENOENT: no iommufd in this kernel, or its module is not loaded; -EACCES,
 * -EMFILE, -ENFILE, -ENOMEM as of open(2).
 */
int lu_iommufd_open(void);

/**
 * lu_ioas_alloc() - make an empty address space for devices
 * @iommufd: iommufd
 * @ioas_id: where to put its number
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -EBADF, -ENOTTY: no iommufd; -ENOMEM.
 */
int lu_ioas_alloc(int iommufd, uint32_t *ioas_id);

/* What a device may do with memory that is mapped. */
#define LU_MAP_READ 1U
#define LU_MAP_WRITE 2U

/**
 * lu_ioas_map_file() - map a part of a file at a fixed address
 * @iommufd: iommufd
 * @ioas_id: number of the IOAS
 * @fd: a memfd, or a dma-buf from lu_device_export_bar()
 * @offset: first byte in the file
 * @length: in bytes
 * @iova: where the devices see it
 * @flags: LU_MAP_READ, LU_MAP_WRITE or both
 *
 * Context: any thread. Pins the memory.
 * Return: 0, or a negative errno: -EINVAL: @flags, or not aligned, or not in the
 * file; -EEXIST: something is mapped there; -ENOENT: no such IOAS; -EBUSY: it is
 * preserved; -EBADF, -ENOTTY: not such files; -EOVERFLOW: past the end of the
 * address space; -ENOMEM; others as of IOMMU_IOAS_MAP_FILE.
 */
int lu_ioas_map_file(int iommufd, uint32_t ioas_id, int fd, uint64_t offset,
		     uint64_t length, uint64_t iova, uint32_t flags);

/* What an area of an IOAS is made of. */
#define LU_AREA_USER 0U
#define LU_AREA_FILE 1U
#define LU_AREA_DMABUF 2U

/**
 * struct lu_area - an area of an IOAS, as it was mapped
 * @iova: where it begins
 * @length: how many bytes it has
 * @offset: where it begins in its file or dma-buf, in bytes
 * @inode: of its file or dma-buf, as fstat(2) has it in st_ino; 0 for memory of a
 *	   process
 * @device: likewise, as in st_dev
 * @kind: one of LU_AREA_*
 * @flags: bits as lu_ioas_map_file() takes them
 */
struct lu_area {
	uint64_t iova;
	uint64_t length;
	uint64_t offset;
	uint64_t inode;
	uint64_t device;
	uint32_t kind;
	uint32_t flags;
};

/**
 * lu_ioas_areas() - ask what is mapped in an IOAS
 * @iommufd: iommufd
 * @ioas_id: number of the IOAS
 * @start: the first address to look at
 * @areas: where to put the areas that end there or after it, in their order
 * @count: how many there is room for; then how many there are, which can be more
 *
 * For a program that preserves what another one has mapped. Areas that were mapped
 * by one call can have been split since.
 *
 * Context: any thread. What is mapped or unmapped meanwhile is there or not.
 * Return: 0, or a negative errno: -ENOENT: no such IOAS; -ENOTTY: this kernel cannot,
 * or not an iommufd; -EBADF: not open.
 */
int lu_ioas_areas(int iommufd, uint32_t ioas_id, uint64_t start,
		  struct lu_area *areas, uint32_t *count);

/**
 * lu_hwpt_alloc() - make a page table that a device's IOMMU can use
 * @iommufd: iommufd
 * @dev_id: the device's number, from lu_device_bind()
 * @ioas_id: number of the IOAS whose mappings it has
 * @hwpt_id: where to put its number
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -ENOENT: no such device or IOAS; -EBADF,
 * -ENOTTY: no iommufd; -ENOMEM; others as of IOMMU_HWPT_ALLOC.
 */
int lu_hwpt_alloc(int iommufd, uint32_t dev_id, uint32_t ioas_id,
		  uint32_t *hwpt_id);

/**
 * lu_iommufd_tracks_dirty() - can the IOMMU of a device track dirty pages?
 * @iommufd: iommufd
 * @dev_id: the device's number, from lu_device_bind()
 *
 * Context: any thread.
 * Return: 1 if it can, 0 if not, or a negative errno: -ENOENT: no such device;
 * -EBADF, -ENOTTY: no iommufd; others as of IOMMU_GET_HW_INFO.
 */
int lu_iommufd_tracks_dirty(int iommufd, uint32_t dev_id);

/**
 * lu_hwpt_mark() - let a page table go along when its iommufd is preserved
 * @iommufd: iommufd
 * @hwpt_id: number of the HWPT
 * @token: its name in the next kernel, for lu_hwpt_find()
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -EEXIST: marked already, or the token is taken;
 * -ENOENT: no such HWPT; -EOPNOTSUPP: it cannot go along; -EBUSY: the iommufd is
 * preserved; -ENOTTY: this kernel cannot, or not an iommufd; -EBADF: not open.
 */
int lu_hwpt_mark(int iommufd, uint32_t hwpt_id, uint64_t token);

/**
 * lu_hwpt_unmark() - undo lu_hwpt_mark()
 * @iommufd: iommufd
 * @hwpt_id: number of the HWPT
 * @token: the token that it was marked with
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -ENOENT: not marked with this token; others as
 * lu_hwpt_mark().
 */
int lu_hwpt_unmark(int iommufd, uint32_t hwpt_id, uint64_t token);

/**
 * lu_hwpt_find() - find a restored page table
 * @iommufd: iommufd that was retrieved
 * @token: the token that the page table was marked with in the previous kernel
 * @hwpt_id: where to put its number
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -ENOENT: no restored page table has this token
 * (any more); -ENOTTY: this kernel cannot, or not an iommufd; -EBADF: not open.
 */
int lu_hwpt_find(int iommufd, uint64_t token, uint32_t *hwpt_id);

/* --- sets ------------------------------------------------------------------- */

/**
 * DOC: Sets
 *
 * A set has members, each with a name of 1 to 63 bytes, without control characters,
 * that is unique in it: memory (a memfd), iommufds, IOASes, HWPTs and devices; and
 * mappings, which have no names. A member that refers to another one is added
 * after it.
 *
 * The way of a set: it is *local* while members can be added; *preserved* from
 * lu_set_preserve() until lu_set_unpreserve(); *incoming* from lu_set_open() until
 * lu_set_finish(), and local then, with the members that it has. Calls that do
 * not fit the state fail, see each.
 *
 * File descriptors: those given to lu_set_add_*() stay the caller's, and have to
 * stay open for as long as the set has them. Those that lu_set_retrieve() gets
 * are the set's, and closed by lu_set_free(), until lu_set_take_fd() makes them
 * the caller's, to whom then the same rule applies.
 *
 * The session of an incoming set ends when its last descriptor is closed, if it
 * can be finished: once the devices are handed over, a process that dies takes
 * them along, unless somebody else (the service manager) has the session.
 *
 * A device's mode follows from what it was added with: an HWPT means running mode;
 * an IOAS means idle mode, and the device is attached to that IOAS again; nothing
 * means idle mode, and binding it is the caller's business in both kernels.
 */

struct lu_set;

/* The longest name of a member, with its terminating NUL. */
#define LU_NAME_SIZE 64

/* How many members and mappings a set can have. */
#define LU_SET_MAX 4096

/* Token of the manifest in a session that a set was preserved in. */
#define LU_MANIFEST_TOKEN 0x4d414e4946455354ULL

/* Kinds of members. */
#define LU_MEMORY 1U
#define LU_IOMMUFD 2U
#define LU_IOAS 3U
#define LU_HWPT 4U
#define LU_DEVICE 5U
#define LU_MAPPING 6U

/**
 * struct lu_member - what a set knows of a member
 * @kind: one of LU_MEMORY to LU_MAPPING
 * @index: its place in the set, counted from 0
 * @name: its name; empty for mappings
 * @fd: memory, iommufd, device: its file, -1 before it is retrieved
 * @id: IOAS, HWPT, device: its number in its iommufd, 0 while it has none (the
 *	number of a device that the caller bound is not known)
 * @error: with which negative errno the last call failed for this member, or 0
 * @parent: index of the iommufd of an IOAS, of the IOAS of an HWPT or a mapping,
 *	    of the IOAS or HWPT of a device; or -1
 * @source: index of the memory or device that is mapped, or -1
 * @mode: device: LU_MODE_IDLE or LU_MODE_RUNNING
 * @bar: mapping of a device: which BAR
 * @bdf: device: its PCI address
 * @flags: mapping: LU_MAP_READ, LU_MAP_WRITE; HWPT: LU_HWPT_TRACKS_DIRTY
 * @token: memory, iommufd, device: in the session; HWPT: its mark; 0 for none
 * @offset: mapping: first byte in the file or BAR
 * @length: memory, mapping: bytes
 * @iova: mapping: where the devices see it
 */
struct lu_member {
	uint32_t kind;
	uint32_t index;
	char name[LU_NAME_SIZE];
	int32_t fd;
	uint32_t id;
	int32_t error;
	int32_t parent;
	int32_t source;
	uint32_t mode;
	uint32_t bar;
	char bdf[LU_BDF_SIZE];
	uint32_t flags;
	uint64_t token;
	uint64_t offset;
	uint64_t length;
	uint64_t iova;
};

/**
 * lu_set_new() - make an empty local set
 * @set: where to put it
 *
 * Context: any thread.
 * Return: 0, or -ENOMEM. lu_set_free() frees it.
 */
int lu_set_new(struct lu_set **set);

/**
 * lu_set_free() - forget a set
 * @set: any set, or NULL
 *
 * Closes its session and the files that are its own. What was preserved is not
 * any more then; an incoming session that cannot be finished yet can be retrieved
 * again.
 *
 * Context: one thread at a time for a set.
 */
void lu_set_free(struct lu_set *set);

/**
 * lu_set_add_memory() - add memory
 * @set: local set
 * @name: its name
 * @fd: a memfd
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -EINVAL: @name is no name of a member, or the
 * file is empty; -EEXIST: the set has this name; -ENOSPC: the set is full;
 * -EBUSY: it is not local; -EBADF: @fd is not open; -ENOMEM.
 */
int lu_set_add_memory(struct lu_set *set, const char *name, int fd);

/**
 * lu_set_add_iommufd() - add an iommufd
 * @set: local set
 * @name: its name
 * @fd: iommufd
 *
 * It crosses when HWPTs of it are added, too. Otherwise there is a new one in its
 * place after the update.
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: as lu_set_add_memory().
 */
int lu_set_add_iommufd(struct lu_set *set, const char *name, int fd);

/**
 * lu_set_add_ioas() - add an address space
 * @set: local set
 * @name: its name
 * @iommufd: name of its iommufd
 * @ioas_id: its number there
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -ENOENT: the set has no member @iommufd; -EINVAL:
 * that is no iommufd, or @name or @ioas_id is none; others as lu_set_add_memory().
 */
int lu_set_add_ioas(struct lu_set *set, const char *name, const char *iommufd,
		    uint32_t ioas_id);

/**
 * lu_set_add_hwpt() - add a page table, which goes along
 * @set: local set
 * @name: its name
 * @ioas: name of its IOAS
 * @hwpt_id: its number in the iommufd of that; it is not marked yet
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -ENOENT: the set has no member @ioas; -EINVAL:
 * that is no IOAS, or @name or @hwpt_id is none; others as lu_set_add_memory().
 */
int lu_set_add_hwpt(struct lu_set *set, const char *name, const char *ioas,
		    uint32_t hwpt_id);

/* A page table that can track dirty pages, in &struct lu_member.flags. */
#define LU_HWPT_TRACKS_DIRTY 1U

/**
 * lu_set_hwpt_tracks_dirty() - say that a page table can track dirty pages
 * @set: local set
 * @name: name of the HWPT, which was made with IOMMU_HWPT_ALLOC_DIRTY_TRACKING
 *
 * So will the one that takes its place after the update. While it goes along, tracking
 * is off. A library that does not know this takes the manifest for damaged.
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -ENOENT: the set has no such member; -EINVAL: it is
 * no HWPT; -EBUSY: the set is not local.
 */
int lu_set_hwpt_tracks_dirty(struct lu_set *set, const char *name);

/**
 * lu_set_add_device() - add a device
 * @set: local set
 * @name: its name
 * @fd: file of the VFIO device, bound to an iommufd
 * @pt: name of the HWPT that it is attached to: running mode; or of the IOAS that
 *	it is to be attached to again: idle mode; or NULL: idle mode, not bound
 *	after the update
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -ENODEV: not the file of a PCI device of VFIO;
 * -ENOENT: the set has no member @pt; -EINVAL: that is neither HWPT nor IOAS;
 * others as lu_set_add_memory().
 */
int lu_set_add_device(struct lu_set *set, const char *name, int fd,
		      const char *pt);

/**
 * lu_set_add_mapping() - add what is mapped in an address space
 * @set: local set
 * @ioas: name of the IOAS
 * @memory: name of the memory
 * @offset: first byte in the memory
 * @length: in bytes
 * @iova: where the devices see it
 * @flags: LU_MAP_READ, LU_MAP_WRITE or both
 *
 * This does not map anything: it says what is mapped, and is mapped again after
 * the update. What is mapped and not said is missing then.
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -ENOENT: the set has no member @ioas or @memory;
 * -EINVAL: they are not what they should be, the range is empty or not in the
 * memory or the address space, or @flags; others as lu_set_add_memory().
 */
int lu_set_add_mapping(struct lu_set *set, const char *ioas, const char *memory,
		       uint64_t offset, uint64_t length, uint64_t iova,
		       uint32_t flags);

/**
 * lu_set_add_bar() - likewise, a device's BAR that is mapped
 * @set: local set
 * @ioas: name of the IOAS
 * @device: name of the device, which crosses in running mode
 * @bar: 0 to 5
 * @offset: first byte in the BAR
 * @length: in bytes
 * @iova: where the devices see it
 * @flags: LU_MAP_READ, LU_MAP_WRITE or both
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -EINVAL: also when @device crosses in idle mode
 * or there is no such BAR; others as lu_set_add_mapping().
 */
int lu_set_add_bar(struct lu_set *set, const char *ioas, const char *device,
		   uint32_t bar, uint64_t offset, uint64_t length,
		   uint64_t iova, uint32_t flags);

/**
 * lu_set_preserve_memory() - preserve a set's memory, ahead of all else
 * @set: local set
 * @luo: from lu_open()
 * @session: name of the session to make
 *
 * To look at each page of memory takes longest, and nothing has to stand still for
 * it: the devices and whoever uses the memory go on, and what is mapped can change.
 * The set stays local, so that members can be added to it. Called again it preserves
 * memory that was added since; lu_set_preserve() does the rest, and
 * lu_set_unpreserve() undoes it. On an error nothing is preserved, and
 * lu_set_failed() tells which member it was.
 *
 * Context: one thread at a time for a set. Takes as long as it takes to look at
 * each page of the memory.
 * Return: 0, or a negative errno: -EBUSY: the set is not local; -EINVAL: it has no
 * members, an HWPT without a device, or a mapping beyond the end of its memory; and
 * those of lu_session_create() and lu_session_preserve().
 */
int lu_set_preserve_memory(struct lu_set *set, int luo, const char *session);

/**
 * lu_set_preserve() - preserve all of a set, or nothing
 * @set: local set
 * @luo: from lu_open(); not used after lu_set_preserve_memory()
 * @session: name of the session to make; likewise
 *
 * Marks the HWPTs, makes the session, and puts into it the manifest, the memory,
 * the iommufds and the devices, in this order. On an error all this is undone, and
 * lu_set_failed() tells which member it was; the same set can be tried again.
 *
 * Context: one thread at a time for a set. Takes as long as it takes to look at
 * each page of the memory.
 * Return: the session's file descriptor, which is the set's: it is closed by
 * lu_set_unpreserve() or lu_set_free(), and duplicated by who wants to keep it (in
 * the service manager: lu_custody_store()); or a negative errno: -EBUSY: the set
 * is not local; -EINVAL: it has no members, an HWPT without a device, or a mapping
 * beyond the end of its memory, which shrank; -EPROTOTYPE: a device would cross
 * in another mode than it was added with (lu_device_query() tells why); and those
 * of lu_session_create(), lu_hwpt_mark(), lu_session_preserve(), lu_device_query()
 * and memfd_create(2).
 */
int lu_set_preserve(struct lu_set *set, int luo, const char *session);

/**
 * lu_set_unpreserve() - let a preserved set be local again
 * @set: preserved set, or a local one after lu_set_preserve_memory()
 *
 * Closes the session and takes the marks of the HWPTs away.
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -EINVAL: the set is not preserved; -EBUSY:
 * somebody else has the session's file, too (see lu_custody_remove()); call it
 * again when they have closed it. That shows at page tables: a set without them is
 * local, but its members stay preserved until then.
 */
int lu_set_unpreserve(struct lu_set *set);

/**
 * lu_set_open() - begin to take a set over
 * @set: where to put it
 * @session: from lu_session_retrieve(); the set's when this succeeds
 *
 * Reads the manifest, and nothing else. The manifest is not trusted: names,
 * references, sizes and numbers are checked.
 *
 * Context: any thread.
 * Return: 0, or a negative errno: -ENOENT: no set was preserved in this session;
 * -EBADMSG: the manifest is damaged; -EPROTONOSUPPORT: it is of a version that
 * this library does not know; -ENOMEM; others as lu_session_retrieve_fd().
 */
int lu_set_open(struct lu_set **set, int session);

/**
 * lu_set_add_irqs() - say which interrupts of a device are to be armed
 * @set: incoming set
 * @device: name of a device that was added with an HWPT or an IOAS
 * @index: one of LU_IRQ_*
 * @eventfds: an eventfd for each vector from 0 on, or -1; they are the caller's,
 *	      open until the device is bound
 * @count: how many there are, 1 to %LU_IRQS_MAX; 1 for %LU_IRQ_INTX
 *
 * lu_set_retrieve(), also as part of lu_set_take_over(), then calls
 * lu_device_irqs_restore() as soon as the device is bound. Who has to ask first which
 * came in calls lu_device_irqs() and lu_device_irqs_restore() after lu_set_retrieve()
 * instead. A second call for a device replaces the first.
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -EINVAL: the set is not incoming, the member is no
 * device or is not bound, @index or @count; -ENOENT: the set has no such member;
 * -ENOMEM.
 */
int lu_set_add_irqs(struct lu_set *set, const char *device, uint32_t index,
		    const int32_t *eventfds, uint32_t count);

/**
 * lu_set_retrieve() - get the members of an incoming set
 * @set: incoming set
 *
 * Gets memory, iommufds and devices, and binds the devices, except those added
 * with nothing. Devices in running mode are then where they were, on their
 * restored page tables. A member that fails does not keep the others from being
 * tried; the first failure is returned. Called again it goes on with what is
 * missing. That also goes for a process that takes the session over from one that
 * died: it gets the same files, bound as they are.
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -EINVAL: the set is not incoming; -ESTALE: a
 * memory has another size, or a device another address, than the manifest says;
 * -EADDRINUSE: a device in idle mode is bound to the iommufd of a process that
 * died: all that can be done is to finish the session, close the device and open
 * it anew; -ENOENT: also that the iommufd of a device is missing; and those of
 * lu_session_retrieve_fd(), lu_device_bdf(), lu_device_bind(), lu_device_id(),
 * lu_iommufd_open() and lu_device_irqs_restore().
 */
int lu_set_retrieve(struct lu_set *set);

/**
 * lu_set_handover() - put page tables of this kernel in the place of the restored
 * @set: incoming set that was retrieved
 *
 * Makes an IOAS for each of the set's, maps the same at the same addresses, makes
 * the HWPTs, and attaches the devices, whose DMA goes on without a fault. Devices
 * that could not be retrieved are left out, with their BARs. Called again it goes
 * on with what is missing.
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -EINVAL: the set is not incoming; -ENOENT: an
 * iommufd or a memory that is needed was not retrieved; and those of
 * lu_ioas_alloc(), lu_ioas_map_file(), lu_device_export_bar(), lu_hwpt_alloc() and
 * lu_device_attach().
 */
int lu_set_handover(struct lu_set *set);

/**
 * lu_set_finish() - end the handover; the set is local then
 * @set: incoming set
 *
 * Closes the session. The set can be changed and preserved for the next update.
 *
 * Context: one thread at a time for a set.
 * Return: 0, or a negative errno: -EINVAL: the set is not incoming; and those of
 * lu_session_finish().
 */
int lu_set_finish(struct lu_set *set);

/**
 * lu_set_take_over() - retrieve, hand over and finish
 * @set: incoming set
 *
 * Can be called again after an error.
 *
 * Context: one thread at a time for a set.
 * Return: 0, or the error of the first step that fails.
 */
int lu_set_take_over(struct lu_set *set);

/**
 * lu_set_member() - look at a member by its place
 * @set: any set
 * @index: 0 for the first
 * @member: where to put what is known of it
 *
 * Context: one thread at a time for a set.
 * Return: 0, or -ENOENT: the set has not so many.
 */
int lu_set_member(const struct lu_set *set, uint32_t index,
		  struct lu_member *member);

/**
 * lu_set_find() - look at a member by its name
 * @set: any set
 * @name: its name
 * @member: where to put what is known of it
 *
 * Context: one thread at a time for a set.
 * Return: 0, or -ENOENT: the set has no such member.
 */
int lu_set_find(const struct lu_set *set, const char *name,
		struct lu_member *member);

/**
 * lu_set_failed() - which member was it?
 * @set: any set
 * @member: where to put what is known of it
 *
 * Context: one thread at a time for a set.
 * Return: 0, or -ENOENT: the last call on the set did not fail, or not because of
 * a member.
 */
int lu_set_failed(const struct lu_set *set, struct lu_member *member);

/**
 * lu_set_take_fd() - make a member's file the caller's
 * @set: any set
 * @name: the member's name
 *
 * The set does not close it any more, and goes on using it.
 *
 * Context: one thread at a time for a set.
 * Return: the file descriptor, or a negative errno: -ENOENT: no such member;
 * -EBADF: it has no file, or was not retrieved.
 */
int lu_set_take_fd(struct lu_set *set, const char *name);

/**
 * lu_set_session() - the session of a set
 * @set: preserved or incoming set
 *
 * Context: one thread at a time for a set.
 * Return: its file descriptor, which stays the set's, or -ENOENT: it has none.
 */
int lu_set_session(const struct lu_set *set);

/* --- custody by the service manager ----------------------------------------- */

/**
 * DOC: Custody
 *
 * A session is preserved as long as somebody has it open. A service that ends
 * before the jump leaves it with systemd, in its file descriptor store (its unit
 * needs FileDescriptorStoreMax=), and gets it back when it is started again.
 *
 * The functions look at the environment, as sd_notify(3) does.
 */

/**
 * lu_custody_store() - leave a copy of a file descriptor with the service manager
 * @fd: file descriptor, which stays the caller's
 * @name: 1 to 255 printable ASCII characters without ':'
 *
 * Returns when the service manager has it.
 *
 * Context: any thread; not while another one changes the environment.
 * Return: 0, or a negative errno: -EINVAL: @name; -ENOTCONN: not run by a service
 * manager; -EBADF: @fd is not open; -ETIMEDOUT: it does not answer; -ENOSYS: the
 * library was built without libsystemd; others as of sendmsg(2).
 */
int lu_custody_store(int fd, const char *name);

/**
 * lu_custody_take() - the file descriptor that the service manager kept
 * @name: its name
 *
 * The service manager keeps its copy until lu_custody_remove().
 *
 * Context: any thread; not while another one changes the environment.
 * Return: the file descriptor, which the caller closes; the same one again when it
 * is called again; or a negative errno: -ENOENT: there is none of this name;
 * -EBADF: it was closed meanwhile; -EINVAL: @name.
 */
int lu_custody_take(const char *name);

/**
 * lu_custody_remove() - let the service manager close its copies
 * @name: their name
 *
 * Context: any thread; not while another one changes the environment.
 * Return: 0, or a negative errno: as lu_custody_store().
 */
int lu_custody_remove(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* LIBLIVEUPDATE_H */
