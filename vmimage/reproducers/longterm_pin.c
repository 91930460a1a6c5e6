/*
 * A long-term pin stays valid while the process writes to its memory: device
 * and process must go on sharing the page.  Pinning read-only does not break
 * COW by itself, so if the page is mapped read-only since a fork(), the next
 * write may copy it and leave the pin with the old page.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "gup_test_abi.h"
#include "repro.h"

static int open_gup_test(void)
{
	int fd = open(GUP_TEST_PATH, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		skip("no %s: %s", GUP_TEST_PATH, strerror(errno));
	/*
	 * START reports an unknown request and a refused one alike; STOP is
	 * always accepted where it is known.
	 */
	if (!ioctl(fd, PIN_LONGTERM_TEST_STOP))
		return fd;
	if (errno != EINVAL && errno != ENOTTY)
		bail_out("ioctl PIN_LONGTERM_TEST_STOP");
	skip("gup_test without PIN_LONGTERM_TEST requests (6.2, or backported)");
}

static void pin_write_compare(struct region *region, __u32 pin_flags)
{
	int gup_test = open_gup_test();
	struct pin_longterm_test pin = {
		.addr = (uintptr_t)region->addr,
		.size = region->size,
		.flags = pin_flags,
	};
	unsigned char *pinned = malloc(region->size);
	__u64 pinned_addr = (uintptr_t)pinned;

	if (!pinned)
		bail_out("malloc");

	outlive_child(region);
	if (ioctl(gup_test, PIN_LONGTERM_TEST_START, &pin))
		bail_out("ioctl PIN_LONGTERM_TEST_START");
	region_fill(region, AFTER_FORK);
	if (ioctl(gup_test, PIN_LONGTERM_TEST_READ, &pinned_addr))
		bail_out("ioctl PIN_LONGTERM_TEST_READ");

	/*
	 * Before unpinning: a kernel with DEBUG_VM may crash on releasing what
	 * it should not have pinned, and the verdict ought to be out by then.
	 */
	expect_bytes(region->addr, region->size, AFTER_FORK,
		     "memory after the process wrote to it",
		     "the process lost its own write: corruption");
	expect_bytes(pinned, region->size, AFTER_FORK,
		     "pinned page after the process wrote to its memory",
		     "the pin kept the old page: wrong COW");

	if (ioctl(gup_test, PIN_LONGTERM_TEST_STOP))
		bail_out("ioctl PIN_LONGTERM_TEST_STOP");
	pass();
}

static void ro_longterm_pin(struct region *region)
{
	pin_write_compare(region, 0);
}

static void ro_longterm_pin_fast(struct region *region)
{
	pin_write_compare(region, PIN_LONGTERM_TEST_FLAG_USE_FAST);
}

#define SOURCE "David Hildenbrand's example, quoted in https://lore.kernel.org/r/CAHk-=wgjOsHAXttQa=csLG10Cp2hh8Dk8CnNC3_WDpBpTzBESQ@mail.gmail.com; fixed by commit a7f226604170 (5.19)"

const struct repro_case longterm_pin_cases[] = {
	{
		.name = "ro-longterm-pin",
		.description = "a read-only long-term pin taken after the child exited follows the process's writes",
		.class = "wrong-cow",
		.source = SOURCE,
		.memories = ANY_MEMORY,
		.pins_longterm = true,
		.run = ro_longterm_pin,
	},
	{
		.name = "ro-longterm-pin-fast",
		.description = "a read-only long-term pin taken by GUP-fast after the child exited follows the process's writes",
		.class = "wrong-cow",
		.source = SOURCE,
		.memories = ANY_MEMORY,
		.pins_longterm = true,
		.run = ro_longterm_pin_fast,
	},
	{ .name = NULL }
};
