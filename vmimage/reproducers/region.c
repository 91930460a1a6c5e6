#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "repro.h"

/* Not in the headers of every libc this may be built with. */
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21		/* Linux 5.4 */
#endif

#define THP_SYSFS "/sys/kernel/mm/transparent_hugepage/"

const char *const memory_names[MEMORY_KINDS] = {
	[BASE] = "base",
	[THP_PMD] = "thp-pmd",
	[SWAP] = "swap",
};

static bool read_line(const char *path, char *line, int size)
{
	FILE *file = fopen(path, "r");
	bool ok;

	if (!file)
		return false;
	ok = fgets(line, size, file);
	fclose(file);
	if (ok)
		line[strcspn(line, "\n")] = '\0';
	return ok;
}

/* For requests to the kernel that are welcome but not needed. */
static void try_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		diagnostic("write %s: %s", path, strerror(errno));
	close(fd);
}

/*
 * Maps `size` bytes with that alignment as a VMA of their own: inaccessible
 * neighbours keep the kernel from merging it with other memory, whose huge
 * pages smaps would then count as ours.
 */
static unsigned char *map_alone(size_t size)
{
	size_t page_size = sysconf(_SC_PAGESIZE);
	uintptr_t reserved, start;

	reserved = (uintptr_t)mmap(NULL, 2 * size + page_size, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (reserved == (uintptr_t)MAP_FAILED)
		bail_out("mmap %zu bytes", 2 * size + page_size);

	/* At least one page is left on either side. */
	start = (reserved + page_size + size - 1) & ~(size - 1);
	if (mprotect((void *)start, size, PROT_READ | PROT_WRITE))
		bail_out("mprotect");
	return (unsigned char *)start;
}

static struct region create_base(void)
{
	struct region region = { .memory = BASE };

	region.size = sysconf(_SC_PAGESIZE);
	region.addr = map_alone(region.size);
	region_fill(&region, BEFORE_FORK);
	require_present(getpid(), &region);
	return region;
}

static bool populate_huge(const struct region *region)
{
	if (madvise(region->addr, region->size, MADV_HUGEPAGE))
		skip("kernel without transparent huge pages: %s",
		     strerror(errno));
	region_fill(region, BEFORE_FORK);
	return pagemap_pmd_mapped(getpid(), region);
}

static struct region create_thp_pmd(void)
{
	struct region region = { .memory = THP_PMD };
	char line[64] = "";

	if (!read_line(THP_SYSFS "hpage_pmd_size", line, sizeof(line)) ||
	    sscanf(line, "%zu", &region.size) != 1 || !region.size)
		skip("kernel without transparent huge pages: no %s",
		     THP_SYSFS "hpage_pmd_size");

	region.addr = map_alone(region.size);
	if (!populate_huge(&region)) {
		/* Fragmentation is the usual reason, and can be cured. */
		region_unmap(&region);
		try_write("/proc/sys/vm/drop_caches", "3");
		try_write("/proc/sys/vm/compact_memory", "1");
		region.addr = map_alone(region.size);
		if (!populate_huge(&region)) {
			read_line(THP_SYSFS "enabled", line, sizeof(line));
			skip("got no huge page mapped by a PMD (enabled: %s)",
			     line);
		}
	}
	require_present(getpid(), &region);
	return region;
}

static bool any_swap_area(void)
{
	FILE *file = fopen("/proc/swaps", "r");
	char line[256];
	int lines = 0;

	if (!file)
		return false;
	while (fgets(line, sizeof(line), file))
		lines++;
	fclose(file);
	return lines > 1;	/* the first line is the header */
}

/*
 * The kernel skips pages which other processes map, so this comes before
 * fork(); and pages which are still on some CPU's way to the LRU lists, so it
 * may take several attempts and in between a request that drains those.
 */
static struct region create_swap(void)
{
	const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };
	struct region region = create_base();

	region.memory = SWAP;
	if (!any_swap_area())
		skip("no swap area in use");

	for (int attempt = 1; attempt <= 100; attempt++) {
		if (madvise(region.addr, region.size, MADV_PAGEOUT))
			skip("kernel without MADV_PAGEOUT: %s",
			     strerror(errno));
		if (pagemap_swapped(&region))
			return region;
		if (attempt % 10 == 0)
			try_write("/proc/sys/vm/compact_memory", "1");
		nanosleep(&pause, NULL);
	}
	skip("the kernel did not swap the page out");
}

struct region region_create(enum memory memory)
{
	switch (memory) {
	case BASE:
		return create_base();
	case THP_PMD:
		return create_thp_pmd();
	case SWAP:
		return create_swap();
	case MEMORY_KINDS:
		break;
	}
	errno = 0;
	bail_out("memory kind %d", memory);
}

void region_fill(const struct region *region, int byte)
{
	memset(region->addr, byte, region->size);
}

void region_read(const struct region *region)
{
	const volatile unsigned char *bytes = region->addr;
	size_t page_size = sysconf(_SC_PAGESIZE);

	for (size_t offset = 0; offset < region->size; offset += page_size)
		(void)bytes[offset];
}

void region_toggle_write_protection(const struct region *region)
{
	if (mprotect(region->addr, region->size, PROT_READ) ||
	    mprotect(region->addr, region->size, PROT_READ | PROT_WRITE))
		bail_out("mprotect");
}

void region_unmap(const struct region *region)
{
	if (munmap(region->addr, region->size))
		bail_out("munmap");
}
