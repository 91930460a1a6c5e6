/*
 * Pages of equal content that the kernel has merged: shared like after fork(),
 * but with whoever happens to have the same.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "repro.h"

#define KSM_SYSFS "/sys/kernel/mm/ksm/"

static unsigned char *mergeable_page(void)
{
	unsigned char *page = map_alone(base_page_size());

	sample_fill(page, base_page_size(), BEFORE_FORK);
	if (madvise(page, base_page_size(), MADV_MERGEABLE))
		skip("kernel without samepage merging: %s", strerror(errno));
	return page;
}

static bool merged(const struct region *region)
{
	return pagemap_has_kpageflag(region->addr, KPAGEFLAG_KSM) &&
	       pagemap_frame(getpid(), region->addr) ==
	       pagemap_frame(getpid(), region->other);
}

/*
 * The daemon merges what it found unchanged from one scan to the next.  With
 * nobody else's memory to scan and no pauses that is a matter of milliseconds.
 * It runs only meanwhile: what it merged stays merged.
 */
struct region create_ksm(const struct memory *memory)
{
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };
	struct region region = {
		.memory = memory,
		.size = base_page_size(),
		.original = BEFORE_FORK,
	};
	long long pages = read_number(KSM_SYSFS "pages_to_scan");
	long long sleep_ms = read_number(KSM_SYSFS "sleep_millisecs");
	char line[64];
	bool done = false;

	if (pages < 0)
		skip("kernel without samepage merging: no %s", KSM_SYSFS);
	region.addr = mergeable_page();
	region.other = mergeable_page();
	if (!write_line(KSM_SYSFS "sleep_millisecs", "0") ||
	    !write_line(KSM_SYSFS "pages_to_scan", "1000") ||
	    !write_line(KSM_SYSFS "run", "1"))
		skip("cannot start samepage merging: %s", strerror(errno));
	for (int i = 0; i < 3000 && !done; i++) {
		nanosleep(&pause, NULL);
		done = merged(&region);
	}
	write_line(KSM_SYSFS "run", "0");
	snprintf(line, sizeof(line), "%lld", pages);
	write_line(KSM_SYSFS "pages_to_scan", line);
	snprintf(line, sizeof(line), "%lld", sleep_ms);
	write_line(KSM_SYSFS "sleep_millisecs", line);
	if (!done || !merged(&region))
		skip("two equal pages were not merged");
	return region;
}
