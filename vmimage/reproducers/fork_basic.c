/*
 * fork() alone: the parent writes while the child lives, the child must not
 * see it.  No other user of the page is involved.
 */
#include "repro.h"

static void read_twice(struct peer *parent, const struct region *region)
{
	/* Also maps the page here, if it was swapped out. */
	expect_region(region, BEFORE_FORK, AFTER_FORK,
		      "child's memory before any write",
		      "the parent has not written yet: corruption");
	peer_pass_turn(parent);
	expect_region(region, BEFORE_FORK, AFTER_FORK,
		      "child's memory after the parent wrote",
		      "the parent's write is visible: missed COW");
}

static void write_while_shared(struct region *region,
			       void (*before_write)(const struct region *))
{
	struct peer *child = peer_fork(read_twice, region);

	require_shared_with(peer_pid(child), region);
	peer_pass_turn(child);
	require_present(peer_pid(child), region);

	if (before_write)
		before_write(region);
	region_fill(region, AFTER_FORK);
	expect_region(region, AFTER_FORK, BEFORE_FORK,
		      "parent's memory after it wrote",
		      "the parent lost its own write: corruption");
	peer_finish(child);
	pass();
}

static void fork_basic(struct region *region, const struct repro_case *self)
{
	(void)self;
	write_while_shared(region, NULL);
}

static void fork_basic_mprotect(struct region *region,
				const struct repro_case *self)
{
	(void)self;
	write_while_shared(region, region_toggle_write_protection);
}

const struct repro_case fork_basic_cases[] = {
	{
		.name = "fork-basic",
		.description = "a child does not see what its parent writes after fork",
		.class = "missed-cow",
		.source = "fork(2): the child's memory is a copy",
		.forms = ANON_FORMS,
		.run = fork_basic,
	},
	{
		/*
		 * mprotect() may map an anonymous page writable at once, to
		 * save the write fault, but only one that nobody shares.
		 */
		.name = "fork-basic-mprotect",
		.description = "a child does not see what its parent writes after fork and mprotect() to read-only and back",
		.class = "missed-cow",
		.source = "guards commit 64fe24a3e05e (6.0), mm/mprotect: try avoiding write faults for exclusive anonymous pages",
		.forms = ANON_FORMS,
		.run = fork_basic_mprotect,
	},
	{ .name = NULL }
};
