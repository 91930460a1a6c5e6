/*
 * MADV_COLLAPSE maps by one PMD what was mapped by PTEs.  The PMD has one mark
 * for "nobody else has this", the PTEs had many: if they did not agree, it must
 * not be set.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "repro.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25	/* Linux 6.1 */
#endif

static void collapse(const struct region *region)
{
	if (madvise(region->addr, region->size, MADV_COLLAPSE))
		skip("MADV_COLLAPSE: %s", strerror(errno));
	if (!pagemap_pmd_mapped(getpid(), region))
		skip("MADV_COLLAPSE left the memory mapped by PTEs");
}

static void compare_on_turn(struct peer *parent, const struct region *region)
{
	region_read(region);
	peer_pass_turn(parent);
	expect_region(region, BEFORE_FORK, AFTER_FORK,
		      "child's memory after the parent wrote",
		      "the parent's write is visible: missed COW");
}

static void write_beside(struct peer *child, const struct region *region,
			 const struct region *shared)
{
	region_fill(region, AFTER_FORK);
	/* Where the child will look; see sample.c. */
	region_fill(shared, AFTER_FORK);
	peer_finish(child);
	pass();
}

static void before_fork(struct region *region, const struct repro_case *self)
{
	struct peer *child;

	(void)self;
	collapse(region);
	child = peer_fork(compare_on_turn, region);
	require_shared_with(peer_pid(child), region);
	peer_pass_turn(child);
	write_beside(child, region, region);
}

static void after_sharing(const struct region *region,
			  const struct region *shared)
{
	struct peer *child;

	region_fill(shared, BEFORE_FORK);
	child = peer_fork(compare_on_turn, shared);
	require_shared_with(peer_pid(child), shared);
	peer_pass_turn(child);
	/* Nothing to do if all was shared; else one VMA must be made of two. */
	if (madvise(region->addr, region->size, MADV_DOFORK))
		bail_out("madvise MADV_DOFORK");
	collapse(region);
	write_beside(child, region, shared);
}

static void fully_shared(struct region *region, const struct repro_case *self)
{
	(void)self;
	after_sharing(region, region);
}

static void share_half(const struct region *region, size_t shared_at,
		       size_t kept_at)
{
	struct region shared = *region;

	shared.addr += shared_at;
	shared.size /= 2;
	if (madvise(region->addr + kept_at, shared.size, MADV_DONTFORK))
		bail_out("madvise MADV_DONTFORK");
	after_sharing(region, &shared);
}

static void lower_shared(struct region *region, const struct repro_case *self)
{
	(void)self;
	share_half(region, 0, region->size / 2);
}

static void upper_shared(struct region *region, const struct repro_case *self)
{
	(void)self;
	share_half(region, region->size / 2, 0);
}

#define SOURCE "commit 6c287605fd56 (5.19) and MADV_COLLAPSE (6.1): exclusivity must survive an in-place collapse"
#define COLLAPSED(case_name, what, function) { \
	.name = case_name, \
	.description = "a child does not see what its parent writes " what, \
	.class = "missed-cow", \
	.source = SOURCE, \
	.forms = FORM_BIT(THP_PTE), \
	.pmd_size_only = true, \
	.needs = { "madv_collapse" }, \
	.run = function, \
}

const struct repro_case collapse_cases[] = {
	COLLAPSED("collapse-before-fork",
		  "to a huge page collapsed before fork", before_fork),
	COLLAPSED("collapse-after-fork",
		  "to a huge page collapsed after fork", fully_shared),
	COLLAPSED("collapse-lower-shared",
		  "to a huge page collapsed after its lower half was shared",
		  lower_shared),
	COLLAPSED("collapse-upper-shared",
		  "to a huge page collapsed after its upper half was shared",
		  upper_shared),
	{ .name = NULL }
};
