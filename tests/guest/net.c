// SPDX-License-Identifier: GPL-2.0-only
/* The machine's own network: numbered frames on an interface of Linux. */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/if_packet.h>

#include "frame.h"
#include "guest.h"

/* Room for all that comes while nobody takes it */
#define NET_BUFFER (8 << 20)
/* The test's end of the cable: what has no other address stays in the controller */
static const uint8_t net_other[6] = { 0x02, 0, 0, 0, 2, 0 };

struct net {
	uint8_t address[6];
	struct frame_account account;
};

/* Find the interface that was opened. */
static int net_use(const struct object *o, struct net **net)
{
	*net = o->driver;
	return *net ? 0 : complain(EINVAL, "%s is no interface", o->name);
}

/* Open an interface for frames of ours. */
static int cmd_net_open(const struct arg *a)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(FRAME_ETHERTYPE) };
	struct ifreq request = {};
	int size = NET_BUFFER, fd, ret;
	struct net *net;

	if (strlen(a[1].s) >= sizeof(request.ifr_name))
		return -EINVAL;
	strcpy(request.ifr_name, a[1].s);
	to.sll_ifindex = if_nametoindex(a[1].s);
	if (!to.sll_ifindex)
		return -errno;
	net = calloc(1, sizeof(*net));
	if (!net)
		return -ENOMEM;
	a[0].o->driver = net;
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	a[0].o->fd = fd;
	ret = sys(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size,
			     sizeof(size)));
	if (!ret)
		ret = sys(bind(fd, (struct sockaddr *)&to, sizeof(to)));
	if (!ret)
		ret = sys(ioctl(fd, SIOCGIFHWADDR, &request));
	if (ret)
		return ret;
	memcpy(net->address, request.ifr_hwaddr.sa_data, sizeof(net->address));
	result("%02x:%02x:%02x:%02x:%02x:%02x", net->address[0],
	       net->address[1], net->address[2], net->address[3],
	       net->address[4], net->address[5]);
	return 0;
}

/* Take all frames that are there: those that are for this interface. */
static int net_take(const struct object *o, struct net *net)
{
	struct frame f;
	ssize_t size;

	while ((size = recv(o->fd, &f, sizeof(f), MSG_DONTWAIT | MSG_TRUNC)) >=
	       0) {
		if (frame_is_ours(&f, size) &&
		    !memcmp(f.to, net->address, sizeof(f.to)))
			frame_enter(&net->account, &f);
		else
			net->account.foreign++;
	}
	/* An interface that goes down says so once. */
	return errno == EAGAIN || errno == ENETDOWN ? 0 : -errno;
}

/* From here on, frames come that count up from a number. */
static int cmd_net_rx_begin(const struct arg *a)
{
	struct net *net;
	int ret = net_use(a[0].o, &net);

	if (!ret)
		ret = net_take(a[0].o, net);
	if (!ret)
		net->account = (struct frame_account){ .first = a[1].n,
						       .next = a[1].n };
	return ret;
}

/* Take what came; wait some time for the frame before number UNTIL, if given. */
static int cmd_net_rx_account(const struct arg *a)
{
	uint64_t end = now_ms() + a[2].n;
	struct net *net;
	int ret = net_use(a[0].o, &net);

	if (!ret)
		ret = net_take(a[0].o, net);
	while (!ret && net->account.next < a[1].n && now_ms() < end) {
		pause_us(1000);
		ret = net_take(a[0].o, net);
	}
	if (!ret)
		frame_account_say(&net->account);
	return ret;
}

/* Send frames out. */
static int cmd_net_tx(const struct arg *a)
{
	struct frame f;
	struct net *net;
	int ret = net_use(a[0].o, &net);

	for (uint64_t i = 0; !ret && i < a[2].n; i++) {
		frame_make(&f, a[1].n + i);
		memcpy(f.to, net_other, sizeof(f.to));
		memcpy(f.from, net->address, sizeof(f.from));
		if (send(a[0].o->fd, &f, sizeof(f), 0) < 0)
			ret = -errno;
	}
	return ret;
}

const struct command net_commands[] = {
	{ "net_open", "Ns", cmd_net_open, "NEW INTERFACE" },
	{ "net_rx_begin", "on", cmd_net_rx_begin, "NET FIRST" },
	{ "net_rx_account", "o|nn", cmd_net_rx_account,
	  "NET [UNTIL MILLISECONDS]" },
	{ "net_tx", "onn", cmd_net_tx, "NET FIRST COUNT" },
	{}
};
