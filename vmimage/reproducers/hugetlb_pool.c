/*
 * With no huge page left to copy to, the kernel lets the parent keep the page
 * it shares and takes it away from the child, who gets SIGBUS for it.  What it
 * must not do is let the child see what the parent writes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "repro.h"

static void occupy_pool(size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | hugetlb_map_flags(size);

	for (;;) {
		unsigned char *page = mmap(NULL, size, PROT_READ | PROT_WRITE,
					   flags, -1, 0);

		if (page == MAP_FAILED)
			return;
		page[0] = 1;
	}
}

static void page_is_gone(int signal)
{
	(void)signal;
	/* In a handler, but of a fault of ours: nothing was interrupted. */
	expected_failure("no huge page was left to copy to: the child lost its page (SIGBUS)");
}

static void compare_on_turn(struct peer *parent, const struct region *region)
{
	(void)parent;
	if (signal(SIGBUS, page_is_gone) == SIG_ERR)
		bail_out("signal SIGBUS");
	expect_region(region, BEFORE_FORK, AFTER_FORK,
		      "child's memory after the parent wrote",
		      "the parent's write is visible: missed COW");
}

static void exhausted(struct region *region, const struct repro_case *self)
{
	struct peer *child = peer_fork(compare_on_turn, region);

	(void)self;
	require_shared_with(peer_pid(child), region);
	occupy_pool(region->size);
	region_fill(region, AFTER_FORK);
	expect_region(region, AFTER_FORK, BEFORE_FORK,
		      "parent's memory after it wrote",
		      "the parent lost its own write: corruption");
	peer_finish(child);
	pass();
}

const struct repro_case hugetlb_pool_cases[] = {
	{
		.name = "hugetlb-pool-exhausted",
		.description = "a parent may write to a shared huge page when no other is left, and its child does not see it",
		.class = "policy",
		.source = "hugetlb_wp(), unmap_ref_private(): by design",
		.forms = FORM_BIT(HUGETLB),
		.known = "no huge page is left to copy to",
		.known_forms = FORM_BIT(HUGETLB),
		.run = exhausted,
	},
	{ .name = NULL }
};
