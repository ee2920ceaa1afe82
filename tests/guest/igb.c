// SPDX-License-Identifier: GPL-2.0-only
/*
 * A small driver for Intel's 82576 network controller (igb) in user space,
 * over VFIO, polling: one ring each way, numbered frames.
 *
 * Like the NVMe driver it keeps everything in one memfd.
 *
 * It also drives the controller's virtual functions, which have the same rings
 * in other places. A virtual function comes up with its queues off: the driver
 * of the physical one admits it (igb_admit), now and after each reset of it.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "frame.h"
#include "guest.h"

#define IGB_MAGIC 0x6c75696762303031ULL
#define IGB_TIMEOUT_MS 10000

/* Registers */
#define IGB_CTRL 0x00000
#define IGB_STATUS 0x00008
#define IGB_MDIC 0x00020
#define IGB_IMC 0x0150c
#define IGB_EIMC 0x01528
#define IGB_GPIE 0x01514
#define IGB_EIMS 0x01524
#define IGB_EIAC 0x0152c
#define IGB_EIAM 0x01530
#define IGB_IVAR0 0x01700
#define IGB_RCTL 0x00100
#define IGB_TCTL 0x00400
/* A virtual function's mailbox, and the memory of it */
#define IGB_VF_MAILBOX 0x00c40
#define IGB_VF_MESSAGE 0x00800
/* Rings: one for each queue of a physical function, the first of a virtual one */
#define IGB_RX 0x0c000
#define IGB_TX 0x0e000
#define IGB_RING_STRIDE 0x40
#define IGB_VF_RX 0x02800
#define IGB_VF_TX 0x03800

/* Registers of a ring */
#define IGB_BAL 0x00
#define IGB_BAH 0x04
#define IGB_LEN 0x08
#define IGB_SRRCTL 0x0c
#define IGB_HEAD 0x10
#define IGB_TAIL 0x18
#define IGB_DCTL 0x28

/* Registers by which a physical function governs the virtual ones */
#define IGB_VFRE 0x00c8c
#define IGB_VFTE 0x00c90
#define IGB_RAL(n) (0x05400 + 8 * (n))
#define IGB_RAH(n) (0x05404 + 8 * (n))
#define IGB_MRQC 0x05818
#define IGB_VT_CTL 0x0581c
#define IGB_VMOLR(pool) (0x05ad0 + 4 * (pool))

#define IGB_CTRL_SLU (1U << 6)
#define IGB_CTRL_RST (1U << 26)
#define IGB_STATUS_LU (1U << 1)
#define IGB_QUEUE_ENABLE (1U << 25)
#define IGB_SRRCTL_ADVANCED (1U << 25)
/* Enable; all unicast, multicast and broadcast; strip the checksum. */
#define IGB_RCTL_ALL (1U << 1 | 1U << 3 | 1U << 4 | 1U << 15 | 1U << 26)
#define IGB_TCTL_ALL (1U << 1 | 1U << 3)
/* PHY 1, register 0 (BMCR): auto-negotiation on, start it now. */
#define IGB_MDIC_AUTONEG (1U << 26 | 1U << 21 | 0U << 16 | 0x1200)
#define IGB_MDIC_READY (1U << 28)

/* Advanced data descriptor, end of packet, add checksum, report status. */
#define IGB_TXD_CMD 0x2b300000U
#define IGB_DESC_DONE 1U
/* Several MSI-X vectors, each of which masks itself when it was raised */
#define IGB_GPIE_MSIX (1U << 4 | 1U << 30)
#define IGB_IVAR_VALID 0x80U

/* A queue, with its filter, for each function; what is for nobody goes to the default. */
#define IGB_MRQC_VMDQ 3
#define IGB_VT_CTL_DEFAULT(pool) ((uint32_t)(pool) << 7)
/* Untagged frames; strip the checksum; broadcast. */
#define IGB_VMOLR_ALL (1U << 24 | 1U << 31)
#define IGB_VMOLR_BROADCAST (1U << 27)
#define IGB_RAH_POOL(pool) (1U << (18 + (pool)))
#define IGB_RAH_VALID (1U << 31)
/* VF n has pool n, and the last is the physical function's, unless it is alone. */
#define IGB_POOLS 8
#define IGB_PF_POOL (IGB_POOLS - 1)

/* In the mailbox: there is a message; the answer was read; it is mine; an answer came */
#define IGB_MAILBOX_REQUEST (1U << 0)
#define IGB_MAILBOX_ACK (1U << 1)
#define IGB_MAILBOX_OWN (1U << 2)
#define IGB_MAILBOX_ANSWER (1U << 4)
/* The first word of a message, and what an answer adds to it */
#define IGB_MESSAGE_RESET 0x01U
#define IGB_MESSAGE_SET_MAC 0x02U
#define IGB_MESSAGE_SET_MULTICAST 0x03U
#define IGB_MESSAGE_SET_VLAN 0x04U
#define IGB_MESSAGE_COUNT(n) ((uint32_t)(n) << 16)
#define IGB_MESSAGE_GOOD (1U << 31)
#define IGB_MESSAGE_WORDS 3

#define TX_ENTRIES 256
/* Room for all that comes while nobody is there to take it. */
#define RX_ENTRIES 2048
#define BUFFER 1024

struct igb_tx_desc {
	uint64_t addr;
	uint32_t cmd_len;
	uint32_t status;
};

struct igb_rx_desc {
	uint64_t addr;
	uint32_t header_low;
	uint32_t header_high;
};

/* @rx, @tx, @ivar: where the registers of the rings and of their interrupt are */
struct igb_state {
	struct dma_state dma;
	uint32_t rx;
	uint32_t tx;
	uint32_t ivar;
	uint32_t tx_tail;
	uint32_t rx_next;
	uint32_t vector;
	struct frame_account account;
};

struct igb_memory {
	union {
		struct igb_state state;
		uint8_t state_page[4096];
	};
	struct igb_tx_desc tx[TX_ENTRIES];
	struct igb_rx_desc rx[RX_ENTRIES];
	uint8_t tx_data[TX_ENTRIES][BUFFER];
	uint8_t rx_data[RX_ENTRIES][BUFFER];
};

/* The driver while a command runs. */
struct igb {
	struct dma dma;
	struct igb_memory *mem;
	struct igb_state *state;
};

/* Is it a virtual function? */
static bool igb_is_vf(const struct igb *igb)
{
	return igb->state->rx == IGB_VF_RX;
}

/* Wait until some bits of a register are all set, or all clear. */
static int igb_wait(const struct igb *igb, uint32_t reg, uint32_t bits,
		    bool set)
{
	uint64_t end = now_ms() + IGB_TIMEOUT_MS;

	while (now_ms() < end) {
		if ((reg_read32(&igb->dma, reg) & bits) == (set ? bits : 0))
			return 0;
		pause_us(200);
	}
	return complain(ETIMEDOUT, "bits %#x of register %#x", bits, reg);
}

/* Reset the controller, leave its interrupts off. */
static int igb_reset(const struct igb *igb)
{
	int ret;

	reg_write32(&igb->dma, IGB_CTRL,
		    reg_read32(&igb->dma, IGB_CTRL) | IGB_CTRL_RST);
	pause_us(2000);
	ret = igb_wait(igb, IGB_CTRL, IGB_CTRL_RST, false);
	if (!igb_is_vf(igb))
		reg_write32(&igb->dma, IGB_IMC, ~0U);
	reg_write32(&igb->dma, IGB_EIMC, ~0U);
	return ret;
}

/* Bring the link up. */
static int igb_link(const struct igb *igb)
{
	int ret;

	reg_write32(&igb->dma, IGB_CTRL,
		    reg_read32(&igb->dma, IGB_CTRL) | IGB_CTRL_SLU);
	reg_write32(&igb->dma, IGB_MDIC, IGB_MDIC_AUTONEG);
	ret = igb_wait(igb, IGB_MDIC, IGB_MDIC_READY, true);
	return ret ? ret : igb_wait(igb, IGB_STATUS, IGB_STATUS_LU, true);
}

/* Tell the device where a ring is. */
static void igb_ring(const struct igb *igb, uint32_t regs, const void *ring,
		     size_t size)
{
	uint64_t iova = dma_iova(&igb->dma, ring);

	reg_write32(&igb->dma, regs + IGB_BAL, iova);
	reg_write32(&igb->dma, regs + IGB_BAH, iova >> 32);
	reg_write32(&igb->dma, regs + IGB_LEN, size);
	reg_write32(&igb->dma, regs + IGB_HEAD, 0);
	reg_write32(&igb->dma, regs + IGB_TAIL, 0);
}

/* Set the rings up, and let them go: frames come as soon as the controller lets them. */
static int igb_rings(const struct igb *igb)
{
	const struct igb_state *state = igb->state;
	const struct dma *dma = &igb->dma;
	int ret;

	igb_ring(igb, state->tx, igb->mem->tx, sizeof(igb->mem->tx));
	reg_write32(dma, state->tx + IGB_DCTL, IGB_QUEUE_ENABLE);
	igb_ring(igb, state->rx, igb->mem->rx, sizeof(igb->mem->rx));
	reg_write32(dma, state->rx + IGB_SRRCTL,
		    IGB_SRRCTL_ADVANCED | BUFFER / 1024);
	reg_write32(dma, state->rx + IGB_DCTL, IGB_QUEUE_ENABLE);
	ret = igb_wait(igb, state->tx + IGB_DCTL, IGB_QUEUE_ENABLE, true);
	if (!ret)
		ret = igb_wait(igb, state->rx + IGB_DCTL, IGB_QUEUE_ENABLE,
			       true);
	if (!ret)
		reg_write32(dma, state->rx + IGB_TAIL, RX_ENTRIES - 1);
	return ret;
}

/* Set some bits of a register. */
static void igb_set(const struct igb *igb, uint32_t reg, uint32_t bits)
{
	reg_write32(&igb->dma, reg, reg_read32(&igb->dma, reg) | bits);
}

/* Let a function have the frames that are for its pool, and send. */
static void igb_pool(const struct igb *igb, uint32_t pool, uint32_t filter)
{
	reg_write32(&igb->dma, IGB_VMOLR(pool), IGB_VMOLR_ALL | filter);
	igb_set(igb, IGB_VFRE, 1U << pool);
	igb_set(igb, IGB_VFTE, 1U << pool);
}

/*
 * Prepare for virtual functions, none of which is admitted yet. Interrupts of
 * theirs, too, come as the physical function has said.
 */
static void igb_divide(const struct igb *igb)
{
	reg_write32(&igb->dma, IGB_VFRE, 0);
	reg_write32(&igb->dma, IGB_VFTE, 0);
	reg_write32(&igb->dma, IGB_MRQC, IGB_MRQC_VMDQ);
	reg_write32(&igb->dma, IGB_VT_CTL, IGB_VT_CTL_DEFAULT(IGB_PF_POOL));
	reg_write32(&igb->dma, IGB_GPIE, IGB_GPIE_MSIX);
	igb_pool(igb, IGB_PF_POOL, IGB_VMOLR_BROADCAST);
}

/* Give a receive buffer to the device. */
static void igb_rx_offer(const struct igb *igb, uint32_t i)
{
	igb->mem->rx[i] = (struct igb_rx_desc){
		.addr = dma_iova(&igb->dma, igb->mem->rx_data[i]),
	};
}

/* Find the memory of a driver, once its device and memory are found. */
static void igb_map(struct igb *igb)
{
	igb->mem = igb->dma.mem;
	igb->state = &igb->mem->state;
}

/* Find a driver that was started. */
static int igb_use(const struct object *drv, struct igb *igb)
{
	int ret = dma_use(drv, sizeof(struct igb_memory), IGB_MAGIC, &igb->dma);

	if (!ret)
		igb_map(igb);
	return ret;
}

/* Begin a driver whose rings have their registers at some place, with empty memory. */
static int igb_begin(const struct arg *a, uint32_t rx, uint32_t tx,
		     uint32_t ivar, struct igb *igb)
{
	int ret = dma_setup(a[0].o, &a[1], &a[2]);

	if (!ret)
		ret = dma_get(a[0].o, sizeof(struct igb_memory), &igb->dma);
	if (!ret)
		ret = vfio_set_master(igb->dma.dev, 1);
	if (ret)
		return ret;
	igb_map(igb);
	memset(igb->mem, 0, sizeof(*igb->mem));
	igb->state->dma.iova = a[3].n;
	igb->state->rx = rx;
	igb->state->tx = tx;
	igb->state->ivar = ivar;
	for (uint32_t i = 0; i < RX_ENTRIES; i++)
		igb_rx_offer(igb, i);
	return igb_reset(igb);
}

static int cmd_igb_start(const struct arg *a)
{
	uint32_t queue = a[4].n ? IGB_PF_POOL : 0;
	struct igb igb;
	int ret;

	if (a[4].n > IGB_PF_POOL)
		return complain(EINVAL, "of %d pools one is the PF's",
				IGB_POOLS);
	ret = igb_begin(a, IGB_RX + queue * IGB_RING_STRIDE,
			IGB_TX + queue * IGB_RING_STRIDE, IGB_IVAR0 + queue * 4,
			&igb);
	if (!ret)
		ret = igb_link(&igb);
	if (ret)
		return ret;
	if (a[4].n)
		igb_divide(&igb);
	ret = igb_rings(&igb);
	if (ret)
		return ret;
	reg_write32(&igb.dma, IGB_TCTL, IGB_TCTL_ALL);
	reg_write32(&igb.dma, IGB_RCTL, IGB_RCTL_ALL);
	igb.state->dma.magic = IGB_MAGIC;
	return 0;
}

/* A virtual function; frames come once its physical function has admitted it. */
static int cmd_igbvf_start(const struct arg *a)
{
	struct igb igb;
	int ret = igb_begin(a, IGB_VF_RX, IGB_VF_TX, IGB_IVAR0, &igb);

	if (!ret)
		ret = igb_wait(&igb, IGB_STATUS, IGB_STATUS_LU, true);
	if (!ret)
		ret = igb_rings(&igb);
	if (!ret)
		igb.state->dma.magic = IGB_MAGIC;
	return ret;
}

/* Let a virtual function have the frames for 02:00:00:00:01:VF, and send. */
static int cmd_igb_admit(const struct arg *a)
{
	uint32_t vf = a[1].n;
	struct igb igb;
	int ret = igb_use(a[0].o, &igb);

	if (!ret && vf >= IGB_PF_POOL)
		ret = complain(EINVAL, "VF %u has no pool", vf);
	if (ret)
		return ret;
	reg_write32(&igb.dma, IGB_RAL(vf + 1), 0x02);
	reg_write32(&igb.dma, IGB_RAH(vf + 1),
		    IGB_RAH_VALID | IGB_RAH_POOL(vf) | vf << 8 | 0x01);
	igb_pool(&igb, vf, 0);
	return 0;
}

/* Have the mailbox for ourselves. */
static int igb_mailbox_own(const struct igb *igb)
{
	uint64_t end = now_ms() + IGB_TIMEOUT_MS;

	while (now_ms() < end) {
		reg_write32(&igb->dma, IGB_VF_MAILBOX, IGB_MAILBOX_OWN);
		if (reg_read32(&igb->dma, IGB_VF_MAILBOX) & IGB_MAILBOX_OWN)
			return 0;
		pause_us(200);
	}
	return complain(ETIMEDOUT, "the mailbox stays the other's");
}

/* Give the physical function's driver a message, without waiting for what it says. */
static int igb_post(const struct igb *igb, const uint32_t *message)
{
	int ret = igb_mailbox_own(igb);

	for (int i = 0; !ret && i < IGB_MESSAGE_WORDS; i++)
		reg_write32(&igb->dma, IGB_VF_MESSAGE + 4 * i, message[i]);
	if (!ret)
		reg_write32(&igb->dma, IGB_VF_MAILBOX, IGB_MAILBOX_REQUEST);
	return ret;
}

/* Wait for what it says. */
static int igb_answer(const struct igb *igb, uint32_t *message)
{
	int ret = igb_wait(igb, IGB_VF_MAILBOX, IGB_MAILBOX_ANSWER, true);

	if (!ret)
		ret = igb_mailbox_own(igb);
	for (int i = 0; !ret && i < IGB_MESSAGE_WORDS; i++)
		message[i] = reg_read32(&igb->dma, IGB_VF_MESSAGE + 4 * i);
	if (!ret)
		reg_write32(&igb->dma, IGB_VF_MAILBOX, IGB_MAILBOX_ACK);
	return ret;
}

/* Find a virtual function whose physical one another driver has. */
static int igb_use_vf(const struct arg *a, struct igb *igb)
{
	int ret = igb_use(a[0].o, igb);

	if (!ret && !igb_is_vf(igb))
		ret = complain(EINVAL, "this is no virtual function");
	return ret;
}

/* Say that we begin anew: frames may come. Without waiting for an answer. */
static int cmd_igbvf_begin(const struct arg *a)
{
	uint32_t message[IGB_MESSAGE_WORDS] = { IGB_MESSAGE_RESET };
	struct igb igb;
	int ret = igb_use_vf(a, &igb);

	return ret ? ret : igb_post(&igb, message);
}

/* What is said to that: which address is ours, if there is one. */
static int cmd_igbvf_begun(const struct arg *a)
{
	uint32_t message[IGB_MESSAGE_WORDS];
	const uint8_t *mac = (const uint8_t *)&message[1];
	struct igb igb;
	int ret = igb_use_vf(a, &igb);

	if (!ret)
		ret = igb_answer(&igb, message);
	if (!ret && !(message[0] & IGB_MESSAGE_GOOD))
		result("none");
	else if (!ret)
		result("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		       mac[3], mac[4], mac[5]);
	return ret;
}

/* Ask for something, and see that it was granted. */
static int igb_ask(const struct arg *a, const uint32_t *question)
{
	uint32_t message[IGB_MESSAGE_WORDS];
	struct igb igb;
	int ret = igb_use_vf(a, &igb);

	if (!ret)
		ret = igb_post(&igb, question);
	if (!ret)
		ret = igb_answer(&igb, message);
	if (!ret && !(message[0] & IGB_MESSAGE_GOOD))
		ret = complain(EACCES, "message %#x", message[0]);
	return ret;
}

/* Ask for the address 02:00:00:00:01:NUMBER. */
static int cmd_igbvf_address(const struct arg *a)
{
	const uint32_t question[IGB_MESSAGE_WORDS] = {
		IGB_MESSAGE_SET_MAC, 0x02, (uint32_t)a[1].n << 8 | 0x01
	};

	return igb_ask(a, question);
}

/* Ask for the address 02:00:00:00:01:NUMBER beside the one that it has. */
static int cmd_igbvf_address_too(const struct arg *a)
{
	const uint32_t question[IGB_MESSAGE_WORDS] = {
		IGB_MESSAGE_SET_MAC | IGB_MESSAGE_COUNT(2), 0x02,
		(uint32_t)a[1].n << 8 | 0x01
	};

	return igb_ask(a, question);
}

/* Ask for frames of a VLAN, too. */
static int cmd_igbvf_vlan(const struct arg *a)
{
	const uint32_t question[IGB_MESSAGE_WORDS] = {
		IGB_MESSAGE_SET_VLAN | IGB_MESSAGE_COUNT(1), a[1].n
	};

	return igb_ask(a, question);
}

/* Ask for frames to the group 03:00:00:00:01:(40 + NUMBER), by the hash of that. */
static int cmd_igbvf_group(const struct arg *a)
{
	const uint32_t question[IGB_MESSAGE_WORDS] = {
		IGB_MESSAGE_SET_MULTICAST | IGB_MESSAGE_COUNT(1),
		(uint32_t)(0x40 + a[1].n) << 4
	};

	return igb_ask(a, question);
}

static int cmd_igb_adopt(const struct arg *a)
{
	struct igb igb;
	int ret = dma_setup(a[0].o, &a[1], &a[2]);

	return ret ? ret : igb_use(a[0].o, &igb);
}

/* Send one frame and wait until the device has taken it. */
static int igb_send(const struct igb *igb, uint64_t seq)
{
	uint32_t i = igb->state->tx_tail;
	volatile struct igb_tx_desc *desc = &igb->mem->tx[i];
	uint64_t end = now_ms() + IGB_TIMEOUT_MS;

	frame_make((struct frame *)igb->mem->tx_data[i], seq);
	igb->mem->tx[i] = (struct igb_tx_desc){
		.addr = dma_iova(&igb->dma, igb->mem->tx_data[i]),
		.cmd_len = IGB_TXD_CMD | FRAME,
		.status = FRAME << 14,
	};
	igb->state->tx_tail = (i + 1) % TX_ENTRIES;
	reg_write32(&igb->dma, igb->state->tx + IGB_TAIL, igb->state->tx_tail);
	while (!(desc->status & IGB_DESC_DONE)) {
		if (now_ms() > end)
			return complain(ETIMEDOUT, "frame %llu is not sent",
					(unsigned long long)seq);
		pause_us(50);
	}
	return 0;
}

static int cmd_igb_tx(const struct arg *a)
{
	struct igb igb;
	int ret = igb_use(a[0].o, &igb);

	for (uint64_t i = 0; !ret && i < a[2].n; i++)
		ret = igb_send(&igb, a[1].n + i);
	return ret;
}

/* Take the next received frame, if there is one: is it one of ours? */
static bool igb_receive(const struct igb *igb, struct frame *f, bool *ours)
{
	uint32_t i = igb->state->rx_next;
	const volatile struct igb_rx_desc *desc = &igb->mem->rx[i];

	if (!(desc->header_low & IGB_DESC_DONE))
		return false;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	memcpy(f, igb->mem->rx_data[i], sizeof(*f));
	*ours = frame_is_ours(f, desc->header_high & 0xffff);
	memset(igb->mem->rx_data[i], 0, BUFFER);
	igb_rx_offer(igb, i);
	igb->state->rx_next = (i + 1) % RX_ENTRIES;
	reg_write32(&igb->dma, igb->state->rx + IGB_TAIL, i);
	return true;
}

/* Take all frames that are there. */
static void igb_take(const struct igb *igb)
{
	struct frame_account *account = &igb->state->account;
	struct frame f;
	bool ours;

	while (igb_receive(igb, &f, &ours)) {
		if (ours)
			frame_enter(account, &f);
		else
			account->foreign++;
	}
}

/* From here on, frames come that count up from a number. */
static int cmd_igb_rx_begin(const struct arg *a)
{
	struct igb igb;
	int ret = igb_use(a[0].o, &igb);

	if (ret)
		return ret;
	igb_take(&igb);
	igb.state->account =
		(struct frame_account){ .first = a[1].n, .next = a[1].n };
	return 0;
}

/* Sleep until the device raises its interrupt, which masks itself by that. */
static int igb_sleep(const struct igb *igb)
{
	int ret = vfio_irq_sleep(igb->dma.dev, igb->state->vector);

	reg_write32(&igb->dma, IGB_EIMS, 1U << igb->state->vector);
	return ret;
}

/*
 * Take what came; wait some time for the frame before number UNTIL, if given: asleep
 * where interrupts are on.
 */
static int cmd_igb_rx_account(const struct arg *a)
{
	uint64_t end = now_ms() + a[2].n;
	const struct frame_account *account;
	struct igb igb;
	int ret = igb_use(a[0].o, &igb);

	if (ret)
		return ret;
	account = &igb.state->account;
	igb_take(&igb);
	while (!ret && account->next < a[1].n && now_ms() < end) {
		if (igb.state->vector)
			ret = igb_sleep(&igb);
		else
			pause_us(50);
		igb_take(&igb);
	}
	frame_account_say(account);
	return ret;
}

static int cmd_igb_rx_check(const struct arg *a)
{
	uint64_t end = now_ms() + a[2].n, first = 0, got = 0;
	struct frame f, want;
	struct igb igb;
	bool ours;
	int ret = igb_use(a[0].o, &igb);

	while (!ret && got < a[1].n) {
		if (!igb_receive(&igb, &f, &ours)) {
			if (now_ms() > end)
				ret = complain(ETIMEDOUT, "%llu frames came",
					       (unsigned long long)got);
			pause_us(50);
			continue;
		}
		if (!ours)
			continue;
		if (!got)
			first = f.seq;
		frame_make(&want, first + got);
		if (f.seq != want.seq ||
		    memcmp(f.words, want.words, sizeof(f.words)))
			ret = complain(EILSEQ, "frame %llu came for %llu",
				       (unsigned long long)f.seq,
				       (unsigned long long)want.seq);
		got++;
	}
	result("%llu %llu", (unsigned long long)first, (unsigned long long)got);
	return ret;
}

/* Raise an interrupt for each frame that comes, until the first: it masks itself. */
static int cmd_igb_irq(const struct arg *a)
{
	struct igb igb;
	int ret = igb_use(a[0].o, &igb);

	if (ret)
		return ret;
	igb.state->vector = a[1].n;
	if (!igb_is_vf(&igb))
		reg_write32(&igb.dma, IGB_GPIE, IGB_GPIE_MSIX);
	reg_write32(&igb.dma, igb.state->ivar,
		    IGB_IVAR_VALID | (uint32_t)a[1].n);
	reg_write32(&igb.dma, IGB_EIAC, 1U << a[1].n);
	reg_write32(&igb.dma, IGB_EIAM, 1U << a[1].n);
	reg_write32(&igb.dma, IGB_EIMS, 1U << a[1].n);
	return 0;
}

/* Take frames, and look for some only when the device has raised its interrupt. */
static int cmd_igb_sleep(const struct arg *a)
{
	struct igb igb;
	struct frame f;
	uint64_t got = 0, last = 0;
	bool ours;
	int ret = igb_use(a[0].o, &igb);

	while (!ret && got < a[1].n) {
		ret = igb_sleep(&igb);
		while (!ret && igb_receive(&igb, &f, &ours)) {
			if (!ours)
				continue;
			if (got && f.seq != last + 1)
				ret = complain(EILSEQ, "frame %llu after %llu",
					       (unsigned long long)f.seq,
					       (unsigned long long)last);
			last = f.seq;
			got++;
		}
	}
	result("%llu %llu", (unsigned long long)got, (unsigned long long)last);
	return ret;
}

static int cmd_igb_stop(const struct arg *a)
{
	struct igb igb;
	int ret = igb_use(a[0].o, &igb);

	if (ret)
		return ret;
	if (!igb_is_vf(&igb)) {
		reg_write32(&igb.dma, IGB_RCTL, 0);
		reg_write32(&igb.dma, IGB_TCTL, 0);
	}
	ret = igb_reset(&igb);
	igb.state->dma.magic = 0;
	return ret ? ret : vfio_set_master(igb.dma.dev, 0);
}

const struct command igb_commands[] = {
	{ "igb_start", "Noon|n", cmd_igb_start, "NEW DEVICE MEMFD IOVA [VFS]" },
	{ "igbvf_start", "Noon", cmd_igbvf_start, "NEW DEVICE MEMFD IOVA" },
	{ "igb_admit", "on", cmd_igb_admit, "IGB VF" },
	{ "igbvf_begin", "o", cmd_igbvf_begin, "IGB" },
	{ "igbvf_begun", "o", cmd_igbvf_begun, "IGB" },
	{ "igbvf_address", "on", cmd_igbvf_address, "IGB NUMBER" },
	{ "igbvf_address_too", "on", cmd_igbvf_address_too, "IGB NUMBER" },
	{ "igbvf_vlan", "on", cmd_igbvf_vlan, "IGB VLAN" },
	{ "igbvf_group", "on", cmd_igbvf_group, "IGB NUMBER" },
	{ "igb_adopt", "Noo", cmd_igb_adopt, "NEW DEVICE MEMFD" },
	{ "igb_tx", "onn", cmd_igb_tx, "IGB FIRST COUNT" },
	{ "igb_rx_check", "onn", cmd_igb_rx_check, "IGB COUNT MILLISECONDS" },
	{ "igb_irq", "on", cmd_igb_irq, "IGB VECTOR" },
	{ "igb_sleep", "on", cmd_igb_sleep, "IGB COUNT" },
	{ "igb_rx_begin", "on", cmd_igb_rx_begin, "IGB FIRST" },
	{ "igb_rx_account", "o|nn", cmd_igb_rx_account,
	  "IGB [UNTIL MILLISECONDS]" },
	{ "igb_stop", "o", cmd_igb_stop, "IGB" },
	{}
};
