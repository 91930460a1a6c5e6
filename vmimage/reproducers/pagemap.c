#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "repro.h"

/*
 * Entries of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
 * The frame is a page frame number if the page is present, and swap type and
 * offset if it is swapped: equal entries mean the same page in both states.
 */
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)
#define PAGEMAP_SOFT_DIRTY (UINT64_C(1) << 55)
#define PAGEMAP_MAPPED_ONCE (UINT64_C(1) << 56)	/* Linux 4.2 */
#define PAGEMAP_UFFD_WP (UINT64_C(1) << 57)	/* Linux 5.13 */
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_PLACE (PAGEMAP_FRAME | PAGEMAP_SWAPPED | PAGEMAP_PRESENT)

/* Flags of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h) */
#define KPAGEFLAG_COMPOUND_HEAD 15
#define KPAGEFLAG_COMPOUND_TAIL 16

/* The entries of a hugetlb page are made up from one: a few will do. */
static size_t page_count(const struct region *region)
{
	size_t pages = region->size / base_page_size();

	return pages > 512 ? 512 : pages;
}

static int open_pagemap(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		skip("kernel without %s", path);
	if (fd < 0)
		bail_out("open %s", path);
	return fd;
}

static void read_pagemap(pid_t pid, const void *addr, uint64_t *entries,
			 size_t count)
{
	off_t offset = (uintptr_t)addr / base_page_size() * sizeof(*entries);
	size_t size = count * sizeof(*entries);
	int fd = open_pagemap(pid);
	ssize_t got = pread(fd, entries, size, offset);

	if (got < 0)
		bail_out("read pagemap");
	if ((size_t)got != size) {
		errno = 0;
		bail_out("read pagemap: %zd of %zu bytes", got, size);
	}
	close(fd);

	for (size_t i = 0; i < count; i++)
		if ((entries[i] & PAGEMAP_PRESENT) &&
		    !(entries[i] & PAGEMAP_FRAME))
			skip("page frame numbers are hidden: not root?");
}

/* The caller frees the entries, one per page of the region. */
static uint64_t *read_entries(pid_t pid, const struct region *region)
{
	uint64_t *entries = malloc(page_count(region) * sizeof(*entries));

	if (!entries)
		bail_out("malloc");
	read_pagemap(pid, region->addr, entries, page_count(region));
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

bool pagemap_all_soft_dirty(const struct region *region)
{
	return all_have(getpid(), region, PAGEMAP_SOFT_DIRTY);
}

bool pagemap_any_soft_dirty(const struct region *region)
{
	uint64_t *entries = read_entries(getpid(), region);
	bool any = false;

	for (size_t i = 0; i < page_count(region); i++)
		any |= !!(entries[i] & PAGEMAP_SOFT_DIRTY);
	free(entries);
	return any;
}

bool pagemap_uffd_wp(pid_t pid, const struct region *region)
{
	return all_have(pid, region, PAGEMAP_UFFD_WP);
}

uint64_t pagemap_frame(pid_t pid, const void *addr)
{
	uint64_t entry;

	read_pagemap(pid, addr, &entry, 1);
	return entry & PAGEMAP_PRESENT ? entry & PAGEMAP_FRAME : 0;
}

/* Flags of `count` consecutive page frames; none behind the last one. */
static void read_kpageflags(uint64_t frame, uint64_t *flags, size_t count)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		skip("no /proc/kpageflags");
	memset(flags, 0, count * sizeof(*flags));
	if (pread(fd, flags, count * sizeof(*flags), frame * sizeof(*flags)) < 0)
		bail_out("read /proc/kpageflags");
	close(fd);
}

bool pagemap_has_kpageflag(const void *addr, unsigned int bit)
{
	uint64_t flags, frame = pagemap_frame(getpid(), addr);

	if (!frame)
		return false;
	read_kpageflags(frame, &flags, 1);
	return flags >> bit & 1;
}

bool pagemap_one_folio(const struct region *region, size_t folio_size)
{
	size_t in_folio = folio_size / base_page_size();
	uint64_t *entries = read_entries(getpid(), region);
	uint64_t *flags = malloc((in_folio + 1) * sizeof(*flags));
	uint64_t first = entries[0] & PAGEMAP_FRAME;
	bool one = true;

	if (!flags)
		bail_out("malloc");
	for (size_t i = 0; i < page_count(region); i++)
		one &= (entries[i] & PAGEMAP_PRESENT) &&
		       (entries[i] & PAGEMAP_FRAME) == first + i;
	free(entries);
	if (!one)
		return false;

	/* One page more, which must not be of this folio. */
	read_kpageflags(first, flags, in_folio + 1);
	one = flags[0] >> KPAGEFLAG_COMPOUND_HEAD & 1;
	for (size_t i = 1; i < in_folio; i++)
		one &= flags[i] >> KPAGEFLAG_COMPOUND_TAIL & 1;
	one &= !(flags[in_folio] >> KPAGEFLAG_COMPOUND_TAIL & 1);
	free(flags);
	return one;
}

/*
 * AnonHugePages counts PMD mappings of anonymous memory only, unlike flags of
 * the page itself, which stay when one process maps it by PTEs.  The region
 * may consist of several VMAs, but they hold nothing else.
 */
bool pagemap_pmd_mapped(pid_t pid, const struct region *region)
{
	uintptr_t region_start = (uintptr_t)region->addr;
	uintptr_t region_end = region_start + region->size;
	bool in_region = false;
	char path[64], line[512];
	size_t mapped = 0;
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

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2) {
			if (start >= region_end)
				break;
			in_region = end > region_start;
		} else if (in_region &&
			   sscanf(line, "AnonHugePages: %zu kB", &kib) == 1) {
			mapped += kib * 1024;
		}
	}
	fclose(file);
	return mapped && mapped >= region->size;
}

void require_present(pid_t pid, const struct region *region)
{
	if (!all_have(pid, region, PAGEMAP_PRESENT))
		skip("%s memory is not mapped where the case needs it mapped",
		     region->memory->name);
}

bool pagemap_shared_with(pid_t child, const struct region *region)
{
	uint64_t *ours = read_entries(getpid(), region);
	uint64_t *theirs = read_entries(child, region);
	bool shared = true;

	for (size_t i = 0; i < page_count(region); i++)
		shared &= !((ours[i] ^ theirs[i]) & PAGEMAP_PLACE) &&
			  (ours[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED));
	free(ours);
	free(theirs);
	return shared;
}

bool pagemap_any_shared_with(pid_t child, const struct region *region)
{
	uint64_t *ours = read_entries(getpid(), region);
	uint64_t *theirs = read_entries(child, region);
	bool shared = false;

	for (size_t i = 0; i < page_count(region); i++)
		shared |= !((ours[i] ^ theirs[i]) & PAGEMAP_PLACE) &&
			  (ours[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED));
	free(ours);
	free(theirs);
	return shared;
}

/*
 * That parent and child map the same pages is also how we know that they are
 * mapped read-only: fork() write-protects what it shares, and pagemap has no
 * bit to ask.
 */
void require_shared_with(pid_t child, const struct region *region)
{
	if (!pagemap_shared_with(child, region))
		skip("fork() did not share the memory");
	if (region->memory->form == THP_PMD &&
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
	if (region->memory->form == THP_PMD &&
	    !pagemap_pmd_mapped(getpid(), region))
		skip("the huge page is no longer mapped by a PMD");
}

void clear_soft_dirty(void)
{
	static unsigned char *probe;
	struct region page = { .size = base_page_size() };

	/* Fresh memory is soft-dirty, if there is such a thing. */
	if (!probe)
		probe = map_alone(base_page_size());
	*probe = 1;
	page.addr = probe;
	if (!pagemap_any_soft_dirty(&page))
		skip("kernel without soft-dirty bits");
	if (!write_line("/proc/self/clear_refs", "4"))
		bail_out("write /proc/self/clear_refs");
	if (pagemap_any_soft_dirty(&page))
		skip("kernel without soft-dirty bits: they cannot be cleared");
}

/*
 * mprotect() may map an exclusive page writable at once (6.0), but not while
 * it has to notice the next write to a page that is not soft-dirty.  So the
 * bits show that the page is mapped read-only, which pagemap itself cannot.
 *
 * A pinned page is not write-protected by clearing the bits alone, so it is
 * made read-only before.  7.3 handles the PTEs of a large folio together and
 * marks them soft-dirty by doing so; one page at a time it does not.
 */
void map_read_only(const struct region *region)
{
	size_t page = base_page_size();

	if (mprotect(region->addr, region->size, PROT_READ))
		bail_out("mprotect to read-only");
	clear_soft_dirty();
	if (mprotect(region->addr, region->size, PROT_READ | PROT_WRITE))
		bail_out("mprotect to writable");
	if (!pagemap_any_soft_dirty(region))
		return;

	if (region->memory->form == HUGETLB)
		skip("the memory stayed soft-dirty: it may be mapped writable");
	if (mprotect(region->addr, region->size, PROT_READ))
		bail_out("mprotect to read-only");
	clear_soft_dirty();
	for (size_t offset = 0; offset < region->size; offset += page)
		if (mprotect(region->addr + offset, page,
			     PROT_READ | PROT_WRITE))
			bail_out("mprotect to writable");
	if (pagemap_any_soft_dirty(region))
		skip("the memory stayed soft-dirty: it may be mapped writable");
}
