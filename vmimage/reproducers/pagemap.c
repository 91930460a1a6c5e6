#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "repro.h"

/*
 * Entries of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
 * The frame is a page frame number if the page is present, and swap type and
 * offset if it is swapped: equal entries mean the same page in both states.
 */
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)
#define PAGEMAP_MAPPED_ONCE (UINT64_C(1) << 56)	/* Linux 4.2 */
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_PLACE (PAGEMAP_FRAME | PAGEMAP_SWAPPED | PAGEMAP_PRESENT)

static size_t page_count(const struct region *region)
{
	return region->size / sysconf(_SC_PAGESIZE);
}

/* The caller frees the entries, one per page of the region. */
static uint64_t *read_entries(pid_t pid, const struct region *region)
{
	size_t page_size = sysconf(_SC_PAGESIZE);
	size_t size = page_count(region) * sizeof(uint64_t);
	off_t offset = (uintptr_t)region->addr / page_size * sizeof(uint64_t);
	uint64_t *entries = malloc(size);
	char path[64];
	ssize_t got;
	int fd;

	if (!entries)
		bail_out("malloc");
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		skip("kernel without %s", path);
	if (fd < 0)
		bail_out("open %s", path);
	got = pread(fd, entries, size, offset);
	if (got < 0)
		bail_out("read %s", path);
	if ((size_t)got != size) {
		errno = 0;
		bail_out("read %s: %zd of %zu bytes", path, got, size);
	}
	close(fd);

	for (size_t i = 0; i < page_count(region); i++)
		if ((entries[i] & PAGEMAP_PRESENT) &&
		    !(entries[i] & PAGEMAP_FRAME))
			skip("page frame numbers are hidden: not root?");
	return entries;
}

static bool all_have(pid_t pid, const struct region *region, uint64_t flag)
{
	uint64_t *entries = read_entries(pid, region);
	bool all = true;

	for (size_t i = 0; i < page_count(region); i++)
		all &= !!(entries[i] & flag);
	free(entries);
	return all;
}

bool pagemap_swapped(const struct region *region)
{
	return all_have(getpid(), region, PAGEMAP_SWAPPED);
}

/*
 * AnonHugePages counts PMD mappings of anonymous memory only, unlike flags of
 * the page itself, which stay when one process maps it by PTEs.  The region
 * must be exactly one VMA.
 */
bool pagemap_pmd_mapped(pid_t pid, const struct region *region)
{
	uintptr_t region_start = (uintptr_t)region->addr;
	uintptr_t region_end = region_start + region->size;
	bool in_region = false, mapped = false;
	char path[64], line[512];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	file = fopen(path, "r");
	if (!file && errno == ENOENT)
		skip("kernel without %s", path);
	if (!file)
		bail_out("open %s", path);
	while (fgets(line, sizeof(line), file)) {
		uintptr_t start, end;
		size_t kib;

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
			in_region = start == region_start && end == region_end;
		else if (in_region &&
			 sscanf(line, "AnonHugePages: %zu kB", &kib) == 1)
			mapped = kib * 1024 == region->size;
	}
	fclose(file);
	return mapped;
}

void require_present(pid_t pid, const struct region *region)
{
	if (!all_have(pid, region, PAGEMAP_PRESENT))
		skip("%s memory is not mapped where the case needs it mapped",
		     memory_names[region->memory]);
}

/*
 * That parent and child map the same pages is also how we know that they are
 * mapped read-only: fork() write-protects what it shares, and pagemap has no
 * bit to ask.
 */
void require_shared_with(pid_t child, const struct region *region)
{
	uint64_t *ours = read_entries(getpid(), region);
	uint64_t *theirs = read_entries(child, region);

	for (size_t i = 0; i < page_count(region); i++)
		if ((ours[i] ^ theirs[i]) & PAGEMAP_PLACE)
			skip("fork() did not share page %zu: entries %#" PRIx64
			     " and %#" PRIx64, i, ours[i], theirs[i]);
	free(ours);
	free(theirs);

	if (region->memory == THP_PMD &&
	    (!pagemap_pmd_mapped(getpid(), region) ||
	     !pagemap_pmd_mapped(child, region)))
		skip("fork() split the PMD mapping");
}

/*
 * After the child exited: we alone map the page, and as nobody wrote since
 * fork(), still read-only.
 */
void require_last_owner(const struct region *region)
{
	if (!all_have(getpid(), region, PAGEMAP_PRESENT) ||
	    !all_have(getpid(), region, PAGEMAP_MAPPED_ONCE))
		skip("the page is not mapped once after the child exited");
	if (region->memory == THP_PMD && !pagemap_pmd_mapped(getpid(), region))
		skip("the huge page is no longer mapped by a PMD");
}
