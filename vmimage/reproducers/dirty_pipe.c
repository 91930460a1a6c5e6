/*
 * A pipe that has a page of a file must not write to it.  One slot of a pipe
 * remembered from its last use that it may be appended to.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "repro.h"

/* Leaves every slot of the pipe behind as one that was written to. */
static void use_all_slots(int pipe_end[2])
{
	char bytes[4096] = "";
	int left = fcntl(pipe_end[1], F_GETPIPE_SZ);

	if (left < 0)
		bail_out("fcntl F_GETPIPE_SZ");
	for (int todo = left; todo > 0; todo -= sizeof(bytes))
		if (write(pipe_end[1], bytes, sizeof(bytes)) != sizeof(bytes))
			bail_out("write to a pipe");
	for (; left > 0; left -= sizeof(bytes))
		if (read(pipe_end[0], bytes, sizeof(bytes)) != sizeof(bytes))
			bail_out("read from a pipe");
}

static void append_to_spliced(struct region *region,
			      const struct repro_case *self)
{
	unsigned char bytes[64];
	loff_t offset = 0;
	int pipe_end[2];
	ssize_t spliced;

	(void)self;
	if (pipe(pipe_end))
		bail_out("pipe");
	use_all_slots(pipe_end);
	spliced = splice(region->fd, &offset, pipe_end[1], NULL, 1, 0);
	if (spliced < 0 && errno == EINVAL)
		skip("splice() of this file: %s", strerror(errno));
	if (spliced != 1)
		bail_out("splice");
	memset(bytes, AFTER_FORK, sizeof(bytes));
	if (write(pipe_end[1], bytes, sizeof(bytes)) != sizeof(bytes))
		bail_out("write to a pipe");
	expect_bytes(region->other, region->size, BEFORE_FORK, AFTER_FORK,
		     "file after a write to a pipe that it was spliced to",
		     "the write is in the file: missed COW");
	pass();
}

const struct repro_case dirty_pipe_cases[] = {
	{
		.name = "dirty-pipe",
		.description = "a write to a pipe does not change the file that was spliced to it",
		.class = "missed-cow",
		.source = "CVE-2022-0847; commit 9d2231c5d74e (5.17)",
		.forms = FORM_BIT(MEMFD) | FORM_BIT(TMPFILE) |
			 FORM_BIT(PRIVATE_FILE),
		.run = append_to_spliced,
	},
	{ .name = NULL }
};
