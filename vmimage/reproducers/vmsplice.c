/*
 * A reference that outlives its mapping: vmsplice() makes a pipe refer to the
 * page (FOLL_GET), munmap() leaves one mapping.  Deciding by the number of
 * mappings, the kernel takes the last one for the only user and lets it write
 * to the page in place, while the pipe still reads it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "repro.h"

/* --- the pipe is the child's, the parent writes -------------------------- */

static void splice_then_unmap(struct peer *parent, const struct region *region)
{
	struct spliced spliced = splice_region(region);

	region_unmap(region);
	peer_pass_turn(parent);
	expect_spliced_unless_hugetlb(region, spliced,
				      "child's pipe after the parent wrote",
				      "the parent's write is visible: missed COW");
}

static void write_after_child_unmapped(struct region *region,
				       void (*before_write)(const struct region *))
{
	struct peer *child = peer_fork(splice_then_unmap, region);

	require_shared_with(peer_pid(child), region);
	peer_pass_turn(child);
	if (before_write)
		before_write(region);
	region_fill(region, AFTER_FORK);
	peer_finish(child);
	pass();
}

static void child_unmap(struct region *region, const struct repro_case *self)
{
	(void)self;
	write_after_child_unmapped(region, NULL);
}

static void child_unmap_mprotect(struct region *region,
				 const struct repro_case *self)
{
	(void)self;
	write_after_child_unmapped(region, region_toggle_write_protection);
}

/* --- the pipe is the parent's, the child writes --------------------------- */

static void write_on_turn(struct peer *parent, const struct region *region)
{
	region_fill(region, AFTER_FORK);
	peer_pass_turn(parent);
}

static void read_after_child_wrote(const struct region *region,
				   struct peer *child, struct spliced spliced)
{
	peer_pass_turn(child);
	expect_spliced_unless_hugetlb(region, spliced,
				      "parent's pipe after the child wrote",
				      "the child's write is visible: missed COW");
	peer_finish(child);
	pass();
}

static void before_fork(struct region *region, const struct repro_case *self)
{
	struct spliced spliced = splice_region(region);
	struct peer *child;

	(void)self;
	/* A pipe may be too small for all of it. */
	region_read(region);
	require_present(getpid(), region);
	child = peer_fork(write_on_turn, region);
	require_shared_with(peer_pid(child), region);
	region_unmap(region);
	read_after_child_wrote(region, child, spliced);
}

static void after_fork(struct region *region, const struct repro_case *self)
{
	struct peer *child = peer_fork(write_on_turn, region);
	struct spliced spliced;

	(void)self;
	require_shared_with(peer_pid(child), region);
	spliced = splice_region(region);
	region_unmap(region);
	read_after_child_wrote(region, child, spliced);
}

/* --- one process, one pipe ------------------------------------------------ */

static bool kernel_older_than(unsigned int major, unsigned int minor)
{
	unsigned int have_major, have_minor;
	struct utsname uts;

	if (uname(&uts))
		bail_out("uname");
	if (sscanf(uts.release, "%u.%u", &have_major, &have_minor) != 2)
		return false;
	return have_major < major ||
	       (have_major == major && have_minor < minor);
}

/*
 * Nobody else has the page any more, so copying it on the write protects
 * nobody.  But it may still be shared as far as the kernel knows, and a
 * FOLL_GET user asked for the page as it is now, so the copy is by design.
 * With a pin (longterm_pin.c) the same outcome is a bug.
 */
static void fork_exit(struct region *region, const struct repro_case *self)
{
	struct spliced spliced;
	unsigned char *bytes;

	(void)self;
	outlive_child(region);
	spliced = splice_region(region);
	region_fill(region, AFTER_FORK);
	bytes = read_spliced(spliced);
	if (all_bytes(bytes, spliced.size, AFTER_FORK)) {
		if (region->memory->form == THP_PMD && kernel_older_than(5, 18))
			expected_failure("before 5.18 huge pages are reused if mapped once, whoever refers to them");
		if (region->memory->form == HUGETLB)
			expected_failure("%s", HUGETLB_REUSED);
	}
	expect_bytes(bytes, spliced.size, BEFORE_FORK, AFTER_FORK,
		     "pipe after the process wrote to its memory",
		     "the page was reused although the pipe refers to it: snapshot lost");
	free(bytes);
	pass();
}

/*
 * Nobody else has the page, so the process goes on writing to it, even if it was
 * unmapped in between to be swapped out: the swap entry remembers that it is
 * exclusive.  Otherwise the pipe's reference makes the write a copy.  It is read
 * first, for before 5.19 a write alone brought the page itself back.
 */
static void swapped(struct region *region, const struct repro_case *self)
{
	struct spliced spliced = splice_region(region);
	unsigned char *bytes;

	(void)self;
	region_swap_out(region);
	region_read(region);
	require_present(getpid(), region);
	region_fill(region, AFTER_FORK);
	bytes = read_spliced(spliced);
	expect_bytes(bytes, spliced.size, AFTER_FORK, BEFORE_FORK,
		     "pipe after its page was swapped out, read and written to",
		     "the write went to a copy: exclusivity lost");
	free(bytes);
	pass();
}

#define SEED_THREAD "https://lore.kernel.org/r/CAHk-=wgjOsHAXttQa=csLG10Cp2hh8Dk8CnNC3_WDpBpTzBESQ@mail.gmail.com"
#define CVE_SOURCE "CVE-2020-29374, Project Zero issue 2045 (Jann Horn)"

const struct repro_case vmsplice_cases[] = {
	{
		.name = "vmsplice-child-unmap",
		.description = "a child that spliced and unmapped a page does not read its parent's later secrets",
		.class = "missed-cow",
		.source = CVE_SOURCE,
		.forms = ANON_FORMS,
		.known = HUGETLB_REUSED,
		.known_forms = FORM_BIT(HUGETLB),
		.run = child_unmap,
	},
	{
		.name = "vmsplice-child-unmap-mprotect",
		.description = "a child that spliced and unmapped a page does not read its parent's secrets, written after mprotect() to read-only and back",
		.class = "missed-cow",
		.source = CVE_SOURCE ", and commit 64fe24a3e05e (6.0)",
		.forms = ANON_FORMS,
		.known = HUGETLB_REUSED,
		.known_forms = FORM_BIT(HUGETLB),
		.run = child_unmap_mprotect,
	},
	{
		.name = "vmsplice-before-fork",
		.description = "a parent that spliced a page before fork and unmapped it does not read its child's writes",
		.class = "missed-cow",
		.source = "Linus Torvalds' example, discussed in " SEED_THREAD,
		.forms = ANON_FORMS,
		.known = HUGETLB_REUSED,
		.known_forms = FORM_BIT(HUGETLB),
		.run = before_fork,
	},
	{
		.name = "vmsplice-after-fork",
		.description = "a parent that spliced a page after fork and unmapped it does not read its child's writes",
		.class = "missed-cow",
		.source = CVE_SOURCE ", with the roles exchanged",
		.forms = ANON_FORMS,
		.known = HUGETLB_REUSED,
		.known_forms = FORM_BIT(HUGETLB),
		.run = after_fork,
	},
	{
		/*
		 * Not swapped out: the page is then read back after the child is
		 * gone, as the process's own, and either outcome is right.
		 */
		.name = "vmsplice-fork-exit",
		.description = "a page spliced after the child exited keeps the content it had then",
		.class = "policy",
		.source = "unprivileged relative of David Hildenbrand's example in " SEED_THREAD,
		.forms = ANON_FORMS & ~SWAP_FORMS,
		.known = HUGETLB_REUSED,
		.known_forms = FORM_BIT(HUGETLB),
		.run = fork_exit,
	},
	{
		.name = "vmsplice-swap",
		.description = "a spliced page that was swapped out and read back is still the one that the process writes to",
		.class = "policy",
		.source = "commit 1493a1913e34 (5.19), mm/swap: remember PG_anon_exclusive via a swp pte bit",
		.forms = FORM_BIT(BASE),
		.needs = { "swap" },
		.run = swapped,
	},
	{ .name = NULL }
};
