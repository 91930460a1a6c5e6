#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "repro.h"

/* The pipe refers to the pages themselves (FOLL_GET), it copies nothing. */
struct spliced splice_region(const struct region *region)
{
	struct iovec iov = { .iov_base = region->addr };
	int fds[2], capacity;
	ssize_t spliced;

	if (pipe(fds))
		bail_out("pipe");
	capacity = fcntl(fds[1], F_GETPIPE_SZ);
	if (capacity < 0)
		bail_out("fcntl F_GETPIPE_SZ");
	iov.iov_len = region->size;
	if (iov.iov_len > (size_t)capacity)
		iov.iov_len = capacity;

	/* Whatever it is: the process can read it, and the pipe is empty. */
	spliced = vmsplice(fds[1], &iov, 1, SPLICE_F_NONBLOCK);
	if (spliced < 0 && errno == ENOMEM)
		bail_out("vmsplice");
	if (spliced <= 0) {
		diagnostic("vmsplice of the memory: expected pages, saw %s: refused",
			   spliced ? strerror(errno) : "none");
		fail();
	}
	/* Readers then see an end and cannot wait for more. */
	close(fds[1]);
	return (struct spliced){
		.fd = fds[0],
		.size = spliced,
		.original = region->original,
	};
}

unsigned char *read_spliced(struct spliced spliced)
{
	unsigned char *bytes = malloc(spliced.size);
	size_t have = 0;

	if (!bytes)
		bail_out("malloc");
	while (have < spliced.size) {
		ssize_t got = read(spliced.fd, bytes + have,
				   spliced.size - have);

		if (got < 0)
			bail_out("read spliced pages");
		if (!got) {
			errno = 0;
			bail_out("pipe ended after %zu of %zu bytes",
				 have, spliced.size);
		}
		have += got;
	}
	return bytes;
}

void expect_spliced(struct spliced spliced, const char *where,
		    const char *otherwise)
{
	unsigned char *bytes = read_spliced(spliced);

	expect_bytes(bytes, spliced.size, spliced.original, AFTER_FORK, where,
		     otherwise);
	free(bytes);
}

/*
 * hugetlb pages are still reused if mapped once, whoever refers to them; the
 * kernel says so itself (hugetlb_wp(), "there can still be leaks between
 * processes, for example, with FOLL_GET users").  Only that very leak is the
 * expected one.
 */
void expect_spliced_unless_hugetlb(const struct region *region,
				   struct spliced spliced, const char *where,
				   const char *otherwise)
{
	unsigned char *bytes = read_spliced(spliced);

	if (region->memory->form == HUGETLB &&
	    all_bytes(bytes, spliced.size, AFTER_FORK))
		expected_failure("%s", HUGETLB_REUSED);
	expect_bytes(bytes, spliced.size, spliced.original, AFTER_FORK, where,
		     otherwise);
	free(bytes);
}
