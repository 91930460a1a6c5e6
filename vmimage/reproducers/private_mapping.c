/*
 * A private mapping of what others have as well: a file, the page of zeroes.
 * It is shared without any fork(), and the first write makes the copy.  A
 * long-term pin must not be of the shared page then, even if it only reads.
 */
#include "pin.h"
#include "repro.h"

static void private_write(struct region *region, const struct repro_case *self)
{
	(void)self;
	region_fill(region, AFTER_FORK);
	expect_region(region, AFTER_FORK, region->original,
		      "memory after the process wrote to it",
		      "the process lost its own write: corruption");
	expect_bytes(region->other, region->size, region->original, AFTER_FORK,
		     "the other mapping after the process wrote to the private one",
		     "the private write is visible: missed COW");
	pass();
}

static void private_pin(struct region *region, const struct repro_case *self)
{
	struct pin pin = pin_open(self->pin, region);

	pin_take(&pin, region);
	region_fill(region, AFTER_FORK);
	pin_expect_write(&pin, region);
	expect_bytes(region->other, region->size, region->original, AFTER_FORK,
		     "the other mapping after the process wrote to the private one",
		     "the private write is visible: missed COW");
	pin_release(&pin);
	pass();
}

#define RELIABLE_PIN "commit 84209e87c696 (6.2), mm/gup: reliable R/O long-term pinning in COW mappings"

const struct repro_case private_mapping_cases[] = {
	{
		.name = "private-write",
		.description = "a write to a private mapping is seen there only",
		.class = "missed-cow",
		.source = "mmap(2): MAP_PRIVATE",
		.forms = NON_ANON_FORMS,
		.run = private_write,
	},
	{
		.name = "private-ro-longterm-pin",
		.description = "a read-only long-term pin of a private mapping follows the process's first write",
		.class = "wrong-cow",
		.source = RELIABLE_PIN,
		.forms = NON_ANON_FORMS,
		.needs = { "gup_test_longterm" },
		.pin = &gup_test_ro,
		.run = private_pin,
	},
	{
		.name = "private-ro-longterm-pin-fast",
		.description = "a read-only long-term pin by GUP-fast of a private mapping follows the process's first write",
		.class = "wrong-cow",
		.source = RELIABLE_PIN,
		.forms = NON_ANON_FORMS,
		.needs = { "gup_test_longterm" },
		.pin = &gup_test_ro_fast,
		.run = private_pin,
	},
	{
		.name = "private-ro-longterm-pin-vfio",
		.description = "a device that may read a private mapping sees the process's first write",
		.class = "wrong-cow",
		.source = RELIABLE_PIN,
		.forms = NON_ANON_FORMS,
		.needs = { "vfio" },
		.pin = &vfio_ro,
		.run = private_pin,
	},
	{ .name = NULL }
};
