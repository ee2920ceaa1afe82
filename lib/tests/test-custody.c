// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Custody, with this program as the service manager of itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fake.h"

#define FIRST_FD 3

static void test_nobody(void)
{
	unsetenv("NOTIFY_SOCKET");
	CHECK(lu_custody_store(-1, "name") == -EBADF);
	CHECK(lu_custody_store(0, "") == -EINVAL);
	CHECK(lu_custody_store(0, "a:b") == -EINVAL);
	CHECK(lu_custody_store(0, "a\nFDSTOREREMOVE=1") == -EINVAL);
	CHECK(lu_custody_remove("a\nb") == -EINVAL);
#ifdef HAVE_LIBSYSTEMD
	CHECK(lu_custody_store(0, "name") == -ENOTCONN);
	CHECK(lu_custody_remove("name") == -ENOTCONN);
#else
	CHECK(lu_custody_store(0, "name") == -ENOSYS);
	CHECK(lu_custody_remove("name") == -ENOSYS);
#endif
}

#ifdef HAVE_LIBSYSTEMD
/* What came in: a message, and the inode of the file with it */
static char messages[4][512];
static ino_t inodes[4];
static int count;
static int manager;

/* Take a message and the file that is with it, or -1. Returns its length. */
static ssize_t receive(char *text, size_t size, int *fd)
{
	union {
		struct cmsghdr head;
		char space[256];
	} control;
	struct iovec iov = { text, size - 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(manager, &msg, MSG_CMSG_CLOEXEC);

	*fd = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c;
	     c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_type == SCM_RIGHTS)
			memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return n;
}

/* A barrier is over when the service manager closes its file. */
static void *serve(void *arg)
{
	char text[512];
	struct stat st;
	ssize_t n;
	int fd;

	(void)arg;
	while ((n = receive(text, sizeof(text), &fd)) > 0) {
		text[n] = '\0';
		if (strncmp(text, "BARRIER", 7)) {
			strcpy(messages[count], text);
			inodes[count++] = fd < 0 || fstat(fd, &st) ? 0 :
								     st.st_ino;
		}
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void test_store(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = memfd_create("kept", MFD_CLOEXEC);
	char path[64];
	pthread_t thread;
	struct stat st;

	snprintf(path, sizeof(path), "@lu-test-%d", getpid());
	memcpy(addr.sun_path + 1, path + 1, strlen(path) - 1);
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(!bind(manager, (struct sockaddr *)&addr,
		    offsetof(struct sockaddr_un, sun_path) + strlen(path)));
	setenv("NOTIFY_SOCKET", path, 1);
	CHECK(!pthread_create(&thread, NULL, serve, NULL));
	CHECK(!lu_custody_store(fd, "session"));
	/* It has come: the call waits for that */
	CHECK(count == 1);
	CHECK(!strcmp(messages[0], "FDSTORE=1\nFDPOLL=0\nFDNAME=session"));
	CHECK(!fstat(fd, &st) && st.st_ino == inodes[0]);
	CHECK(!lu_custody_remove("session"));
	CHECK(count == 2);
	CHECK(!strcmp(messages[1], "FDSTOREREMOVE=1\nFDNAME=session"));
	CHECK(!inodes[1]);
	shutdown(manager, SHUT_RD);
	pthread_join(thread, NULL);
	close(manager);
	close(fd);
}
#endif

/* Files of services begin at 3: whatever is there is moved out of the way. */
static void test_take(void)
{
	static const char *const counts[] = { "",	    "0",	  "-1",
					      "2147483647", "4294967299", "x" };
	char pid[16];
	int fds[3], fd;

	for (int i = 0; i < 3; i++) {
		fds[i] = memfd_create("passed", 0);
		CHECK(dup2(fds[i], FIRST_FD + i + 10) >= 0);
	}
	for (int i = 0; i < 3; i++)
		CHECK(dup2(FIRST_FD + i + 10, FIRST_FD + i) >= 0);
	CHECK(lu_custody_take("session") == -ENOENT);
	setenv("LISTEN_FDS", "3", 1);
	setenv("LISTEN_FDNAMES", "listen:session:", 1);
	CHECK(lu_custody_take("session") == -ENOENT);
	setenv("LISTEN_PID", "1", 1);
	CHECK(lu_custody_take("session") == -ENOENT);
	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("LISTEN_PID", pid, 1);
	CHECK(lu_custody_take("sess") == -ENOENT);
	CHECK(lu_custody_take("") == -EINVAL);
	fd = lu_custody_take("session");
	CHECK(fd == FIRST_FD + 1);
	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	CHECK(lu_custody_take("listen") == FIRST_FD);
	close(fd);
	CHECK(lu_custody_take("session") == -EBADF);
	CHECK(lu_custody_take("listen") == FIRST_FD);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		setenv("LISTEN_FDS", counts[i], 1);
		CHECK(lu_custody_take("listen") == -ENOENT);
	}
}

int main(void)
{
	test_nobody();
#ifdef HAVE_LIBSYSTEMD
	test_store();
#endif
	test_take();
	return 0;
}
