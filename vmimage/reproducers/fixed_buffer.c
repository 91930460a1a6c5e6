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

static void write_and_compare(struct pin *pin, const struct region *region)
{
	region_fill(region, AFTER_FORK);
	pin_expect_write(pin, region);
	pin_release(pin);
	pass();
}

static void read_only(struct region *region, const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);

	pin_take(&pin, region);
	map_read_only(region);
	write_and_compare(&pin, region);
}

static void fork_with_buffer(struct region *region,
			     const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);

	pin_take(&pin, region);
	/* It stays, for with it gone there is nobody to copy for. */
	peer_fork(peer_idle, region);
	write_and_compare(&pin, region);
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
 * The pages of a buffer are handed back by folio.  One that begins in the
 * middle of a folio had a page counted that was never pinned.
 */
static void tail_page(struct region *region, const struct repro_case *self)
{
	unsigned int complaints = kernel_complaints();
	struct ring *ring = ring_open();
	size_t page = base_page_size();
	struct region pair = *region, half;
	unsigned char *bytes;
	size_t size;

	(void)self;
	/* Several folios are needed for them to be put together. */
	pair.size = 2 * region->size;
	pair.addr = map_alone(pair.size);
	if (madvise(pair.addr, pair.size, MADV_HUGEPAGE))
		bail_out("madvise MADV_HUGEPAGE");
	sample_fill(pair.addr, pair.size, AFTER_FORK);
	half = pair;
	half.size = region->size;
	if (!pagemap_one_folio(&half, half.size))
		skip("got no huge page beside another");
	half.addr += half.size;
	if (!pagemap_one_folio(&half, half.size))
		skip("got no two huge pages side by side");

	size = pair.size - page;
	ring_register_buffer(ring, pair.addr + page, size);
	bytes = map_alone(pair.size);
	ring_read_back(ring, pair.addr + page, size, bytes);
	if (memcmp(bytes, pair.addr + page, size)) {
		diagnostic("buffer that begins in a huge page: read back differently: corruption");
		fail();
	}
	ring_unregister_buffers(ring);
	ring_close(ring);
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
		.description = "a fixed buffer of io_uring follows the process's writes while a child lives that was forked after",
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
