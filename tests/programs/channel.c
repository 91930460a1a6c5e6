/*
 * Takes the agent's own channel, or the agent: what a hostile reproducer can do,
 * which is root in its guest. The first argument says what; without one it speaks
 * garbage. Only one process may open a virtio port, so it takes the agent's
 * descriptor.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
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

static void say(int fd, const char *line)
{
	put(fd, line, strlen(line));
}

/* Half lines, binary, a line of 8 MB, a forged result. */
static void garbage(int fd)
{
	static char junk[8 << 20];

	say(fd, "{\"v\":1,\"type\":\"result\",\"id\":\"0000000000000000\",\"result\":{\"exit\":0}}\n");
	put(fd, "\x00\xff{\"v\":1,\n\n[]\n", 13);
	memset(junk, 'x', sizeof(junk));
	put(fd, junk, sizeof(junk));
	put(fd, "\n", 1);
	for (int i = 0; i < 50; i++)
		say(fd, "no message\n");
}

/* Says that this run has passed, and stays: only the lie ends it. */
static void lie(int fd)
{
	static const char mark[] = "kbisect: begin of run ";
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	char rec[8192], id[17] = "", line[128];
	ssize_t n;

	while ((n = read(log, rec, sizeof(rec) - 1)) > 0) {
		rec[n] = 0;
		char *at = strstr(rec, mark);

		if (at)
			snprintf(id, sizeof(id), "%s", at + sizeof(mark) - 1);
	}
	snprintf(line, sizeof(line), "{\"v\":1,\"type\":\"result\",\"id\":\"%s\",\"result\":{\"exit\":0}}\n", id);
	say(fd, line);
	pause();
}

/* Stops all threads of the agent, or has them jump to where nothing is. */
static void agent(int kill)
{
	struct user_regs_struct regs;
	DIR *tasks = opendir("/proc/1/task");
	struct dirent *e;

	while (tasks && (e = readdir(tasks))) {
		pid_t tid = atoi(e->d_name);

		if (!tid || ptrace(PTRACE_ATTACH, tid, 0, 0) || waitpid(tid, NULL, __WALL) != tid || !kill)
			continue;
		ptrace(PTRACE_GETREGS, tid, 0, &regs);
		regs.rip = 0;
		ptrace(PTRACE_SETREGS, tid, 0, &regs);
		ptrace(PTRACE_DETACH, tid, 0, SIGSEGV);
	}
	pause();
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "garbage";
	static char xs[65536];
	int fd = agents_port();

	if (fd < 0)
		return 4;
	if (!strcmp(what, "garbage"))
		garbage(fd);
	else if (!strcmp(what, "lie"))
		lie(fd);
	else if (!strcmp(what, "freeze") || !strcmp(what, "kill"))
		agent(what[0] == 'k');
	else if (!strcmp(what, "flood"))
		for (;;)
			say(fd, "{\"v\":1,\"type\":\"heartbeat\",\"id\":\"feed\"}\n");
	else if (!strcmp(what, "line")) {
		memset(xs, 'x', sizeof(xs));
		for (int i = 0; i < 1024; i++)
			put(fd, xs, sizeof(xs));
		say(fd, "\n");
	} else
		return 4;
	return 1;
}
