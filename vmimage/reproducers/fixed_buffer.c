/*
 * A buffer registered with io_uring is pinned for writing.  Whatever happens
 * to the mapping afterwards, process and device must share the page.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pin.h"
#include "repro.h"
#include "ring.h"

#define SOMEBODY_ELSE 0x33

static void write_and_compare(struct pin *pin, const struct region *region)
{
	region_fill(region, AFTER_FORK);
	pin_expect_write(pin, region);
	pin_release(pin);
}

static void read_only(struct region *region, const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);

	pin_take(&pin, region);
	map_read_only(region);
	write_and_compare(&pin, region);
	pass();
}

static void fork_with_buffer(struct region *region,
			     const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);
	struct peer *child;

	pin_take(&pin, region);
	/* It stays, for with it gone there is nobody to copy for. */
	child = peer_fork(peer_keeps_copy, region);
	write_and_compare(&pin, region);
	/* What it got at once must be a copy all the same. */
	peer_finish(child);
	pass();
}

/*
 * Nobody notices what a device writes, so a page that is pinned for writing
 * has to count as written at all times.
 */
static void stays_soft_dirty(struct region *region,
			     const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);

	pin_take(&pin, region);
	clear_soft_dirty();
	if (!pagemap_all_soft_dirty(region)) {
		diagnostic("pinned memory after clear_refs: not soft-dirty, writes by a device are missed");
		fail();
	}
	pin_release(&pin);
	pass();
}

/*
 * Pages that are counted once too little belong to nobody while they are still
 * mapped.  The next one who needs memory gets them and writes to them.
 */
static void expect_ours(const struct region *region)
{
	enum { HUGE_PAGES = 4 };
	unsigned char *others = map_alone(HUGE_PAGES * pmd_size());

	if (madvise(others, HUGE_PAGES * pmd_size(), MADV_HUGEPAGE))
		bail_out("madvise MADV_HUGEPAGE");
	for (int i = 0; i < HUGE_PAGES; i++)
		sample_fill(others + i * pmd_size(), pmd_size(), SOMEBODY_ELSE);
	expect_region(region, AFTER_FORK, SOMEBODY_ELSE,
		      "memory of a buffer that was unregistered",
		      "it is somebody else's as well: corruption");
	if (munmap(others, HUGE_PAGES * pmd_size()))
		bail_out("munmap");
}

/*
 * The pages of a buffer are handed back by folio.  One that begins in the
 * middle of a folio had a page counted that was never pinned.
 */
static void tail_page(struct region *region, const struct repro_case *self)
{
	unsigned int complaints = kernel_complaints();
	struct ring *ring = ring_open();
	size_t page = base_page_size();
	/* Several folios are needed for them to be put together. */
	struct region half[2] = { *region, *region };
	unsigned char *pair = map_alone(2 * region->size), *bytes;
	size_t size = 2 * region->size - page;

	(void)self;
	if (madvise(pair, 2 * region->size, MADV_HUGEPAGE))
		bail_out("madvise MADV_HUGEPAGE");
	for (int i = 0; i < 2; i++) {
		half[i].addr = pair + i * region->size;
		region_fill(&half[i], AFTER_FORK);
		if (region_in(region, FORM_BIT(THP_PTE)))
			map_by_ptes(&half[i]);
		if (!pagemap_one_folio(&half[i], region->size) ||
		    pagemap_pmd_mapped(getpid(), &half[i]) !=
		    region_in(region, FORM_BIT(THP_PMD)))
			skip("got no two such huge pages side by side");
	}

	ring_register_buffer(ring, pair + page, size);
	bytes = map_alone(2 * region->size);
	ring_read_back(ring, pair + page, size, bytes);
	if (memcmp(bytes, pair + page, size)) {
		diagnostic("buffer that begins in a huge page: read back differently: corruption");
		fail();
	}
	ring_unregister_buffers(ring);
	ring_close(ring);

	for (int i = 0; i < 2; i++)
		expect_ours(&half[i]);
	/*
	 * Mapped by PTEs, a huge page has a reference for each of them: one
	 * that is missing shows in the last.
	 */
	for (int i = 0; i < 2; i++) {
		if (munmap(half[i].addr + page, half[i].size - page))
			bail_out("munmap");
		half[i].size = page;
	}
	for (int i = 0; i < 2; i++)
		expect_ours(&half[i]);
	expect_no_complaint(complaints, "buffer that begins in a huge page");
	pass();
}

const struct repro_case fixed_buffer_cases[] = {
	{
		.name = "fixed-buffer-read-only",
		.description = "a fixed buffer of io_uring follows the process's writes after its pages were mapped read-only",
		.class = "wrong-cow",
		.source = "commit 6c287605fd56 (5.19), mm: remember exclusively mapped anonymous pages with PG_anon_exclusive",
		.forms = ANON_FORMS,
		.needs = { "io_uring", "soft_dirty" },
		.pin = &io_uring_fixed,
		.run = read_only,
	},
	{
		.name = "fixed-buffer-fork",
		.description = "a fixed buffer of io_uring follows the process's writes while a child lives that was forked after, with a copy of its own",
		.class = "wrong-cow",
		.source = "commit 70e806e4e645 (5.9), mm: Do early cow for pinned pages during fork() for ptes; 4eae4efa2c29 (5.12) for hugetlb",
		.forms = ANON_FORMS,
		.needs = { "io_uring" },
		.pin = &io_uring_fixed,
		.run = fork_with_buffer,
	},
	{
		/* The bits of a PMD are cleared whether it is pinned or not. */
		.name = "fixed-buffer-soft-dirty",
		.description = "a page pinned by io_uring stays soft-dirty when the bits are cleared",
		.class = "policy",
		.source = "commit 9348b73c2e1b (5.11), mm: don't play games with pinned pages in clear_page_refs",
		.forms = FORM_BIT(BASE) | FORM_BIT(THP_PTE) |
			 FORM_BIT(THP_SINGLE) | FORM_BIT(THP_MREMAP),
		.needs = { "io_uring", "soft_dirty" },
		.pin = &io_uring_fixed,
		.run = stays_soft_dirty,
	},
	{
		.name = "fixed-buffer-tail-page",
		.description = "a fixed buffer of io_uring may begin at a tail page of a huge page",
		.class = "policy",
		.source = "syzbot 1d335893772467199ab6; broken by commit a8edbb424b13 (6.12), fixed by io_uring/rsrc: fix folio unpinning (6.16)",
		.forms = FORM_BIT(THP_PMD) | FORM_BIT(THP_PTE),
		.pmd_size_only = true,
		.needs = { "io_uring" },
		.run = tail_page,
	},
	{ .name = NULL }
};
