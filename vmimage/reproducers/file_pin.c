/*
 * Long-term pins of files in memory: allowed, of the file's page if the mapping
 * is shared, of the process's own if it is private.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pin.h"
#include "repro.h"

/* Of other files the kernel may refuse it. */
#define IN_MEMORY (FORM_BIT(MEMFD) | FORM_BIT(TMPFILE) | FORM_BIT(MEMFD_HUGETLB))

static void pin_shared(struct region *region, const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);
	struct region shared = *region;

	shared.addr = region->other;
	pin.must_be_granted = true;
	pin_take(&pin, &shared);
	region_fill(&shared, AFTER_FORK);
	pin_expect_write(&pin, &shared);
	pin_release(&pin);
	pass();
}

static void pin_private(struct region *region, const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);

	pin.must_be_granted = region_in(region, IN_MEMORY);
	pin_take(&pin, region);
	region_fill(region, AFTER_FORK);
	pin_expect_write(&pin, region);
	expect_bytes(region->other, region->size, region->original, AFTER_FORK,
		     "the file after the process wrote to its private mapping",
		     "the private write is visible: missed COW");
	pin_release(&pin);
	pass();
}

/* --- fork() with what looks like a pinned page of a file ------------------- */

/* A page with that many references counts as pinned (GUP_PIN_COUNTING_BIAS). */
#define REFERENCES 1100
#define SLOTS 256

static void refer_often(const struct region *region)
{
	struct iovec pieces[SLOTS];

	for (int i = 0; i < SLOTS; i++)
		pieces[i] = (struct iovec){ region->addr, base_page_size() };
	for (int have = 0; have < REFERENCES; have += SLOTS) {
		int fds[2];

		if (pipe(fds))
			bail_out("pipe");
		if (fcntl(fds[1], F_SETPIPE_SZ,
			  SLOTS * (int)base_page_size()) < 0)
			skip("pipe of %d pages: %s", SLOTS, strerror(errno));
		if (vmsplice(fds[1], pieces, SLOTS, SPLICE_F_NONBLOCK) !=
		    (ssize_t)(SLOTS * base_page_size()))
			bail_out("vmsplice of one page %d times", SLOTS);
	}
}

static void write_own(struct peer *parent, const struct region *region)
{
	(void)parent;
	expect_region(region, BEFORE_FORK, AFTER_FORK,
		      "child's memory before any write",
		      "nobody has written yet: corruption");
	region_fill(region, AFTER_FORK);
	expect_bytes(region->other, region->size, BEFORE_FORK, AFTER_FORK,
		     "the file after the child wrote to its private mapping",
		     "the child's write is visible: missed COW");
}

static void fork_referred(struct region *region, const struct repro_case *self)
{
	unsigned int complaints = kernel_complaints();
	struct pin pin = pin_open(self->pin, region);
	struct region elsewhere = *region;
	struct peer *child;

	/* Makes fork() look at this process's pages one by one... */
	elsewhere.addr = map_alone(region->size);
	pin.must_be_granted = true;	/* ordinary memory */
	region_fill(&elsewhere, BEFORE_FORK);
	pin_take(&pin, &elsewhere);
	/* ...and at this mapping: it has had a page of its own. */
	region_fill(region, AFTER_FORK);
	if (madvise(region->addr, region->size, MADV_DONTNEED))
		bail_out("madvise MADV_DONTNEED");
	region_read(region);
	if (pagemap_frame(getpid(), region->addr) !=
	    pagemap_frame(getpid(), region->other))
		skip("the private mapping does not show the file's own page");
	refer_often(region);

	child = peer_fork(write_own, region);
	peer_finish(child);
	expect_region(region, BEFORE_FORK, AFTER_FORK,
		      "parent's memory after the child wrote",
		      "the child's write is visible: missed COW");
	expect_no_complaint(complaints, "fork() with a pinned page of a file");
	pass();
}

#define ALLOWED "tools/testing/selftests/mm/gup_longterm.c; commits 8ac268436e6d and a6e79df92e4a (6.5) forbid it for other files"
#define FILE_PIN(case_name, what, which, need, function, which_forms) { \
	.name = "file-pin-" case_name, \
	.description = what " is allowed and follows the process's writes", \
	.class = "policy", \
	.source = ALLOWED, \
	.forms = which_forms, \
	.needs = { need }, \
	.pin = &which, \
	.run = function, \
}
#define GUP_TEST "gup_test_longterm"

/* A read-only pin of a private mapping is private_mapping.c. */
const struct repro_case file_pin_cases[] = {
	FILE_PIN("shared-ro", "a read-only long-term pin of a shared mapping",
		 gup_test_ro, GUP_TEST, pin_shared, IN_MEMORY),
	FILE_PIN("shared-ro-fast", "a read-only long-term pin by GUP-fast of a shared mapping",
		 gup_test_ro_fast, GUP_TEST, pin_shared, IN_MEMORY),
	FILE_PIN("shared-rw", "a long-term pin of a shared mapping",
		 gup_test_rw, GUP_TEST, pin_shared, IN_MEMORY),
	FILE_PIN("shared-rw-fast", "a long-term pin by GUP-fast of a shared mapping",
		 gup_test_rw_fast, GUP_TEST, pin_shared, IN_MEMORY),
	FILE_PIN("shared-io-uring", "a fixed buffer of io_uring in a shared mapping",
		 io_uring_fixed, "io_uring", pin_shared, IN_MEMORY),
	FILE_PIN("private-rw", "a long-term pin of a private mapping",
		 gup_test_rw, GUP_TEST, pin_private, FILE_FORMS),
	FILE_PIN("private-rw-fast", "a long-term pin by GUP-fast of a private mapping",
		 gup_test_rw_fast, GUP_TEST, pin_private, FILE_FORMS),
	FILE_PIN("private-io-uring", "a fixed buffer of io_uring in a private mapping",
		 io_uring_fixed, "io_uring", pin_private, FILE_FORMS),
	{
		.name = "file-pin-fork",
		.description = "fork() copes with a page of a file that counts as pinned",
		.class = "policy",
		.source = "Yuanzheng Song, fix of copy_present_page() in 5.10.y and 5.15.y; broken by commit 70e806e4e645 (5.9)",
		.forms = FORM_BIT(MEMFD) | FORM_BIT(TMPFILE) |
			 FORM_BIT(PRIVATE_FILE),
		.needs = { "io_uring" },
		.pin = &io_uring_fixed,
		.run = fork_referred,
	},
	{ .name = NULL }
};
