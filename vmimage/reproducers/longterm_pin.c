/*
 * A long-term pin stays valid while the process writes to its memory: device
 * and process must go on sharing the page.  Pinning read-only does not break
 * COW by itself, so if the page is mapped read-only the next write may copy it
 * and leave the pin with the old page.  Why it is mapped read-only makes the
 * three kinds of case: it is shared, it was, or somebody watches for writes.
 */
#include <unistd.h>

#include "pin.h"
#include "repro.h"

static void write_and_compare(struct pin *pin, const struct region *region)
{
	region_fill(region, AFTER_FORK);
	/*
	 * Before unpinning: a kernel with DEBUG_VM may crash on releasing what
	 * it should not have pinned, and the verdict ought to be out by then.
	 */
	pin_expect_write(pin, region);
	pin_release(pin);
	pass();
}

/* The child that is left alone dies with this process. */
static void pin_shared(struct region *region, const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);
	struct peer *child = peer_fork(peer_idle, region);

	require_shared_with(peer_pid(child), region);
	pin_take(&pin, region);
	write_and_compare(&pin, region);
}

static void pin_previously_shared(struct region *region,
				  const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);

	outlive_child(region);
	pin_take(&pin, region);
	write_and_compare(&pin, region);
}

static void pin_exclusive(struct region *region, const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);

	/* If swapped out, it comes back as ours alone. */
	region_read(region);
	map_read_only(region);
	require_present(getpid(), region);
	pin_take(&pin, region);
	write_and_compare(&pin, region);
}

#define SEED "David Hildenbrand's example, quoted in https://lore.kernel.org/r/CAHk-=wgjOsHAXttQa=csLG10Cp2hh8Dk8CnNC3_WDpBpTzBESQ@mail.gmail.com; fixed by commit a7f226604170 (5.19)"
#define UNSHARE "commit a7f226604170 (5.19), mm/gup: trigger FAULT_FLAG_UNSHARE when R/O-pinning a possibly shared anonymous page"
#define EXCLUSIVE "commit 6c287605fd56 (5.19), mm: remember exclusively mapped anonymous pages with PG_anon_exclusive"
#define NEEDS_PIN { "gup_test_longterm" }

const struct repro_case longterm_pin_cases[] = {
	{
		.name = "ro-longterm-pin",
		.description = "a read-only long-term pin taken after the child exited follows the process's writes",
		.class = "wrong-cow",
		.source = SEED,
		.forms = ANON_FORMS,
		.needs = NEEDS_PIN,
		.pin = &gup_test_ro,
		.run = pin_previously_shared,
	},
	{
		.name = "ro-longterm-pin-fast",
		.description = "a read-only long-term pin taken by GUP-fast after the child exited follows the process's writes",
		.class = "wrong-cow",
		.source = SEED,
		.forms = ANON_FORMS,
		.needs = NEEDS_PIN,
		.pin = &gup_test_ro_fast,
		.run = pin_previously_shared,
	},
	{
		.name = "ro-longterm-pin-shared",
		.description = "a read-only long-term pin taken while a child shares the page follows the process's writes",
		.class = "wrong-cow",
		.source = UNSHARE,
		.forms = ANON_FORMS,
		.needs = NEEDS_PIN,
		.pin = &gup_test_ro,
		.run = pin_shared,
	},
	{
		.name = "ro-longterm-pin-shared-fast",
		.description = "a read-only long-term pin taken by GUP-fast while a child shares the page follows the process's writes",
		.class = "wrong-cow",
		.source = UNSHARE,
		.forms = ANON_FORMS,
		.needs = NEEDS_PIN,
		.pin = &gup_test_ro_fast,
		.run = pin_shared,
	},
	{
		.name = "ro-longterm-pin-exclusive",
		.description = "a read-only long-term pin of a write-protected page of this process alone follows its writes",
		.class = "wrong-cow",
		.source = EXCLUSIVE,
		.forms = ANON_FORMS,
		.needs = { "gup_test_longterm", "soft_dirty" },
		.pin = &gup_test_ro,
		.run = pin_exclusive,
	},
	{
		.name = "ro-longterm-pin-exclusive-fast",
		.description = "a read-only long-term pin by GUP-fast of a write-protected page of this process alone follows its writes",
		.class = "wrong-cow",
		.source = EXCLUSIVE,
		.forms = ANON_FORMS,
		.needs = { "gup_test_longterm", "soft_dirty" },
		.pin = &gup_test_ro_fast,
		.run = pin_exclusive,
	},
	{
		.name = "ro-longterm-pin-vfio",
		.description = "a device that may read the page since the child exited sees the process's writes",
		.class = "wrong-cow",
		.source = SEED,
		.forms = ANON_FORMS,
		.needs = { "vfio" },
		.pin = &vfio_ro,
		.run = pin_previously_shared,
	},
	{
		.name = "ro-longterm-pin-shared-vfio",
		.description = "a device that may read the page since a child shares it sees the process's writes",
		.class = "wrong-cow",
		.source = UNSHARE,
		.forms = ANON_FORMS,
		.needs = { "vfio" },
		.pin = &vfio_ro,
		.run = pin_shared,
	},
	{
		.name = "ro-longterm-pin-exclusive-vfio",
		.description = "a device that may read a write-protected page of this process alone sees its writes",
		.class = "wrong-cow",
		.source = EXCLUSIVE,
		.forms = ANON_FORMS,
		.needs = { "vfio", "soft_dirty" },
		.pin = &vfio_ro,
		.run = pin_exclusive,
	},
	{ .name = NULL }
};
