/*
 * Speaks garbage on the agent's own channel, between the agent's messages and
 * instead of them: half lines, binary, a line of 8 MB, a forged result. Only
 * one process may open a virtio port, so it takes the agent's descriptor.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

static int agents_port(void)
{
	int pidfd = syscall(SYS_pidfd_open, 1, 0);

	for (int fd = 3; fd < 64; fd++) {
		char link[64], path[256] = "";

		snprintf(link, sizeof(link), "/proc/1/fd/%d", fd);
		if (readlink(link, path, sizeof(path) - 1) > 0 && strstr(path, "vport"))
			return syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	}
	return -1;
}

static void put(int fd, const char *s, size_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, s, n);

		if (k <= 0)
			usleep(1000);
		else
			s += k, n -= k;
	}
}

int main(void)
{
	static const char forged[] =
		"{\"v\":1,\"type\":\"result\",\"id\":\"0000000000000000\",\"result\":{\"exit\":0}}\n";
	static char junk[8 << 20];
	int fd = agents_port();

	if (fd < 0)
		return 4;
	put(fd, forged, sizeof(forged) - 1);
	put(fd, "\x00\xff{\"v\":1,\n\n[]\n", 13);
	memset(junk, 'x', sizeof(junk));
	put(fd, junk, sizeof(junk));
	put(fd, "\n", 1);
	for (int i = 0; i < 50; i++)
		put(fd, "no message\n", 11);
	return 1;
}
