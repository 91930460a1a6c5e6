/* Pages of the hugetlb pool. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "repro.h"

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

int hugetlb_map_flags(size_t size)
{
	return MAP_HUGETLB | __builtin_ctzll(size) << MAP_HUGE_SHIFT;
}

static long long pool(size_t size, const char *what)
{
	char path[128];

	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/hugepages/hugepages-%zukB/%s", size / 1024,
		 what);
	return read_number(path);
}

void require_free_hugetlb(size_t size, unsigned int count)
{
	long long available = pool(size, "free_hugepages");

	if (available < 0)
		skip("kernel or CPU without huge pages of %zu kB", size / 1024);
	available -= pool(size, "resv_hugepages");
	if (available < count)
		skip("%lld huge pages of %zu kB are free, the case needs %u",
		     available, size / 1024, count);
}

/*
 * A second one must be free: a copy takes it.  With none left the kernel takes
 * the page away from a child instead (hugetlb_pool.c).
 */
struct region create_hugetlb(const struct memory *memory)
{
	struct region region = {
		.memory = memory,
		.size = memory->size,
		.original = BEFORE_FORK,
	};

	require_free_hugetlb(memory->size, 2);
	region.addr = mmap(NULL, region.size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS |
			   hugetlb_map_flags(region.size), -1, 0);
	if (region.addr == MAP_FAILED)
		skip("mmap of a huge page of %zu kB: %s", region.size / 1024,
		     strerror(errno));
	region_fill(&region, BEFORE_FORK);
	require_present(getpid(), &region);
	if (!pagemap_has_kpageflag(region.addr, KPAGEFLAG_HUGE))
		skip("not a hugetlb page");
	return region;
}
