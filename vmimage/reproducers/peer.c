#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "repro.h"

/*
 * Strict alternation makes every case deterministic: only the process that
 * has the turn touches the memory under test.  A byte in a pipe passes the
 * turn; if the other process dies, its end of the pipes closes, so nobody
 * waits for the dead.
 */
struct peer {
	pid_t pid;
	bool is_child;
	int send;
	int receive;
};

static struct peer *new_peer(pid_t pid, bool is_child, int send, int receive)
{
	struct peer *peer = malloc(sizeof(*peer));

	if (!peer)
		bail_out("malloc");
	*peer = (struct peer){ pid, is_child, send, receive };
	return peer;
}

static bool send_turn(struct peer *peer)
{
	return write(peer->send, "", 1) == 1;
}

static bool await_turn(struct peer *peer)
{
	char byte;
	ssize_t got;

	do {
		got = read(peer->receive, &byte, 1);
	} while (got < 0 && errno == EINTR);
	return got == 1;
}

/* Adopts the verdict of a child that printed one. */
static void reap(struct peer *child)
{
	int status;

	while (waitpid(child->pid, &status, 0) < 0)
		if (errno != EINTR)
			bail_out("waitpid");
	if (WIFSIGNALED(status)) {
		errno = 0;
		/* Somebody's, such as the OOM killer's. */
		if (WTERMSIG(status) == SIGKILL)
			bail_out("child killed by signal %d", SIGKILL);
		/* A fault that the kernel did not resolve, as in the parent. */
		diagnostic("child killed by signal %d", WTERMSIG(status));
		fail();
	}
	if (WEXITSTATUS(status) == EXIT_NO_VERDICT) {
		errno = 0;
		bail_out("child gave up");
	}
	if (WEXITSTATUS(status) != EXIT_PASS)
		_exit(WEXITSTATUS(status));
}

static _Noreturn void run_child(child_main *child, const struct region *region,
				pid_t parent_pid, struct peer *parent)
{
	/* The parent's time limit then covers the child. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		bail_out("prctl PR_SET_PDEATHSIG");
	if (getppid() != parent_pid || !await_turn(parent))
		_exit(EXIT_NO_VERDICT);
	child(parent, region);
	_exit(EXIT_PASS);
}

struct peer *peer_fork(child_main *child, const struct region *region)
{
	pid_t pid, parent_pid = getpid();
	int down[2], up[2];

	/* A dead peer is an error of write(), not the end of this process. */
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		bail_out("signal SIGPIPE");
	if (pipe(down) || pipe(up))
		bail_out("pipe");
	pid = fork();
	if (pid < 0)
		bail_out("fork");
	if (pid == 0) {
		close(down[1]);
		close(up[0]);
		run_child(child, region, parent_pid,
			  new_peer(parent_pid, false, up[1], down[0]));
	}
	close(down[0]);
	close(up[1]);
	return new_peer(pid, true, down[1], up[0]);
}

pid_t peer_pid(const struct peer *peer)
{
	return peer->pid;
}

void peer_pass_turn(struct peer *peer)
{
	if (send_turn(peer) && await_turn(peer))
		return;

	if (!peer->is_child)
		_exit(EXIT_NO_VERDICT);
	reap(peer);
	errno = 0;
	bail_out("child exited before its last turn");
}

void peer_finish(struct peer *child)
{
	/* A child that has already died is reaped all the same. */
	send_turn(child);
	reap(child);
	close(child->send);
	close(child->receive);
	free(child);
}

/* Returning from its first turn, which is its last one, a child exits. */
void peer_idle(struct peer *parent, const struct region *region)
{
	(void)parent;
	(void)region;
}

void peer_keeps_copy(struct peer *parent, const struct region *region)
{
	(void)parent;
	expect_region(region, BEFORE_FORK, AFTER_FORK, "child's memory",
		      "the parent's write is visible: missed COW");
}

void outlive_child(const struct region *region)
{
	struct peer *child = peer_fork(peer_idle, region);

	require_shared_with(peer_pid(child), region);
	peer_finish(child);
	/* If swapped out, it comes back as fork() left the rest: read-only. */
	region_read(region);
	require_last_owner(region);
}
