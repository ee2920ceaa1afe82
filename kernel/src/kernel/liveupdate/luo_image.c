// SPDX-License-Identifier: GPL-2.0-only

/**
 * DOC: The next kernel of a Live Update
 *
 * A device that runs through a live update does not stop for a kernel that does
 * not know of it: that kernel would turn translation off, or hand the device's
 * memory to somebody else, while the device writes to it. So what is preserved
 * says what it needs, the image of the next kernel says what it takes, and the
 * two are compared before the jump.
 *
 * - The image carries the versions of all contracts that it knows
 *   (arch/x86/boot/compressed/kernel_info_liveupdate.S). kexec_file_load(2) reads
 *   them (liveupdate_read_image()). An image that was loaded by kexec_load(2)
 *   declares nothing, nor does one whose declaration cannot be read.
 * - A file handler says with needs() which versions the next kernel has to have
 *   for a file. vfio-pci does for devices in running mode; what crosses at rest
 *   needs nothing, a kernel that does not know it leaves it alone.
 * - reboot(2) compares them (luo_image_check()), when no session and no image can
 *   change any more, and before the first file is frozen. If something is missing
 *   it fails with -ENOEXEC and one line in the log. Nothing was done by then,
 *   and another image can be loaded.
 * - A kernel that does not have a file's handler can never finish the session, and
 *   one without this work gives up all sessions, and the memory in them, because of
 *   such a file. So files at rest that the image does not declare stay behind, and
 *   with those of devices the objects that they share (luo_image_omits()).
 *
 * For developers, who know that a kernel takes over what it does not declare,
 * there is the parameter luo.any_image. To set it taints the kernel, and a kernel
 * that is locked down does not heed it.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/build_bug.h>
#include <linux/cleanup.h>
#include <linux/err.h>
#include <linux/io.h>
#include <linux/kexec.h>
#include <linux/kho/abi/kexec_handover.h>
#include <linux/kho/abi/liveupdate_versions.h>
#include <linux/kho/abi/luo.h>
#include <linux/kho/abi/memfd.h>
#include <linux/kho_block.h>
#include <linux/list.h>
#include <linux/liveupdate.h>
#include <linux/liveupdate_image.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/security.h>
#include <linux/seq_buf.h>
#include <linux/string.h>

#include "luo_bzimage.h"
#include "luo_image.h"
#include "luo_internal.h"

static bool any_image;
module_param_unsafe(any_image, bool, 0600);
MODULE_PARM_DESC(any_image, "Jump with running devices into kernels that do not say that they take them (for developers only)");

/* A kernel that takes signed images only does not take ones that are not looked at */
static bool luo_image_any(void)
{
	return any_image && !security_locked_down(LOCKDOWN_KEXEC);
}

/**
 * liveupdate_read_image() - Note what an image takes over
 * @image:  Where to.
 * @kernel: The bzImage that it is loaded from.
 * @size:   Its size.
 *
 * An image that cannot be read is loaded all the same. It takes nothing.
 *
 * Context: From kexec_file_load(2).
 */
void liveupdate_read_image(struct kimage *image, const void *kernel,
			   unsigned long size)
{
	int ret = luo_bzimage_read(kernel, size, image->liveupdate_takes,
				   sizeof(image->liveupdate_takes));

	if (ret)
		pr_warn("What the image takes over cannot be read (%pe)\n",
			ERR_PTR(ret));
}

/**
 * struct luo_image_check - What preserved files need, compared with an image.
 * @takes:   Versions that the image has.
 * @needs:   Versions that files need.
 * @missing: Those of them that the image does not have.
 */
struct luo_image_check {
	const char *takes;
	struct seq_buf needs;
	struct seq_buf missing;
};

static void luo_image_add(struct seq_buf *versions, const char *version)
{
	seq_buf_printf(versions, "%s%s", versions->len ? " " : "", version);
}

static void luo_image_check_file(u64 token, const char *compatible,
				 struct liveupdate_file_op_args *args,
				 void *data)
{
	const char *const *needs = luo_image_needs(args);
	struct luo_image_check *check = data;

	for (; needs && *needs; needs++) {
		if (luo_versions_have(seq_buf_str(&check->needs), *needs))
			continue;
		luo_image_add(&check->needs, *needs);
		if (!luo_versions_have(check->takes, *needs))
			luo_image_add(&check->missing, *needs);
	}
}

/* The copies in liveupdate_versions.h, which has no C in it */
static void luo_image_check_copies(void)
{
	BUILD_BUG_ON(strcmp(KHO_LIVEUPDATE_COMPATIBLE, KHO_FDT_COMPATIBLE));
	BUILD_BUG_ON(strcmp(LUO_LIVEUPDATE_COMPATIBLE, LUO_ABI_COMPATIBLE));
	BUILD_BUG_ON(strcmp(MEMFD_LIVEUPDATE_COMPATIBLE,
			    MEMFD_LUO_FH_COMPATIBLE));
}

/* Room for the versions that needs() of all handlers can give */
#define LUO_IMAGE_ROOM	256

/**
 * luo_image_check() - Does the loaded image take what is preserved?
 * @sessions: The outgoing sessions.
 *
 * Context: From reboot(2), which holds the lock of the image, with everything
 * locked that could change a session but the sessions' own locks.
 * Return: 0, or -ENOEXEC when something is missing, which is logged.
 */
int luo_image_check(const struct list_head *sessions)
{
	char needs[LUO_IMAGE_ROOM], missing[LUO_IMAGE_ROOM];
	struct luo_image_check check = {
		.takes = kexec_image->liveupdate_takes,
	};
	struct luo_session *session;

	luo_image_check_copies();
	seq_buf_init(&check.needs, needs, sizeof(needs));
	seq_buf_init(&check.missing, missing, sizeof(missing));

	list_for_each_entry(session, sessions, list) {
		guard(mutex)(&session->mutex);
		luo_file_for_each(&session->file_set, luo_image_check_file,
				  &check);
	}

	/* What does not fit was not looked for */
	WARN_ON_ONCE(seq_buf_has_overflowed(&check.needs));
	if (!check.missing.len && !seq_buf_has_overflowed(&check.needs))
		return 0;

	if (luo_image_any()) {
		pr_crit("luo.any_image is set: going into a kernel that does not take %s; it takes %s\n",
			seq_buf_str(&check.missing), *check.takes ? check.takes : "nothing");
		pr_crit("Devices that it does not know may write to any of its memory\n");
		return 0;
	}

	pr_err("Freeze failed! The next kernel does not take %s. Preserved files need %s; it takes %s (%pe)\n",
	       seq_buf_str(&check.missing), seq_buf_str(&check.needs),
	       *check.takes ? check.takes : "nothing", ERR_PTR(-ENOEXEC));

	return -ENOEXEC;
}

/**
 * luo_image_omits() - Does what a handler has preserved stay behind?
 * @compatible: What the handler of files, or of a shared object, is called.
 *
 * Context: As luo_image_check().
 * Return: true if it must not be handed over.
 */
bool luo_image_omits(const char *compatible)
{
	return !luo_image_any() &&
	       luo_versions_omit(kexec_image->liveupdate_takes, compatible);
}

/* A block without files is one that no kernel takes. */
static void luo_image_omit_files(struct luo_session_ser *session)
{
	struct luo_file_set_ser *set = &session->file_set_ser;
	u64 *link = &set->files;

	while (*link) {
		struct kho_block_header_ser *block = phys_to_virt(*link);
		struct luo_file_ser *files = (void *)(block + 1);
		u64 kept = 0;

		for (u64 i = 0; i < block->count; i++) {
			if (luo_image_omits(files[i].compatible))
				pr_warn("%s: token %#llx [%s] stays behind, the next kernel does not take it\n",
					session->name, files[i].token,
					files[i].compatible);
			else
				files[kept++] = files[i];
		}

		set->count -= block->count - kept;
		block->count = kept;
		if (kept)
			link = &block->next;
		else
			*link = block->next;
	}
}

/**
 * luo_image_omit() - Leave the files behind that the next kernel does not take
 * @sessions: The outgoing sessions, frozen, as they are handed over.
 *
 * Context: As luo_image_check(), when nothing can fail any more: the files'
 * blocks are not put together again.
 */
void luo_image_omit(struct kho_block_set *sessions)
{
	struct luo_session_ser *session;
	struct kho_block_set_it it;

	kho_block_set_it_init(&it, sessions);
	while ((session = kho_block_set_it_read_entry(&it)))
		luo_image_omit_files(session);
}
