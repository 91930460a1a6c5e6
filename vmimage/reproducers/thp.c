/*
 * Transparent huge pages, of a PMD's size or smaller (mTHP, Linux 6.8), and
 * what they become when they are mapped, unmapped, moved or shared in part.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "repro.h"

#define THP_SYSFS "/sys/kernel/mm/transparent_hugepage/"

size_t pmd_size(void)
{
	long long size = read_number(THP_SYSFS "hpage_pmd_size");

	return size > 0 ? size : 0;
}

/*
 * A size of its own switch, which is off by default.  Only memory that asks
 * for huge pages is meant to get them, hence not "always".  It stays on: the
 * kernel gives the largest size that fits, and ours fits only itself.
 */
static void allow_size(size_t size)
{
	char path[128], line[128];

	snprintf(path, sizeof(path), THP_SYSFS "hugepages-%zukB/enabled",
		 size / 1024);
	if (!read_line(path, line, sizeof(line)))
		skip("kernel without transparent huge pages of %zu kB",
		     size / 1024);
	if ((strstr(line, "[never]") || strstr(line, "[inherit]")) &&
	    !write_line(path, "madvise"))
		skip("cannot enable huge pages of %zu kB: %s", size / 1024,
		     strerror(errno));
}

/*
 * khugepaged looks for memory to map by PMDs again, every ten seconds and when
 * somebody asks for huge pages after nobody had any: in the middle of a test.
 * Let it look at nothing now and then not for an hour.  It takes notice only of
 * memory that has had a page (hugepage_vma_check(), 6.1).
 */
void send_khugepaged_to_sleep(void)
{
	const char *sleep_ms = THP_SYSFS "khugepaged/scan_sleep_millisecs";
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };
	long long scans = read_number(THP_SYSFS "khugepaged/full_scans");
	unsigned char *nothing;

	if (read_number(sleep_ms) < 0 || read_number(sleep_ms) >= 3600 * 1000 ||
	    !pmd_size() || !write_line(sleep_ms, "3600000"))
		return;
	nothing = map_alone(pmd_size());
	*nothing = 1;
	madvise(nothing, pmd_size(), MADV_HUGEPAGE);
	munmap(nothing, pmd_size());
	for (int i = 0; i < 50; i++) {
		if (read_number(THP_SYSFS "khugepaged/full_scans") != scans)
			break;
		nanosleep(&pause, NULL);
	}
}

static bool populate(const struct region *region)
{
	if (madvise(region->addr, region->size, MADV_HUGEPAGE))
		skip("kernel without transparent huge pages: %s",
		     strerror(errno));
	/* One access must do for the whole of it. */
	region->addr[0] = BEFORE_FORK;
	if (!pagemap_one_folio(region, region->size))
		return false;
	if (region->size == pmd_size() &&
	    !pagemap_pmd_mapped(getpid(), region))
		return false;
	region_fill(region, BEFORE_FORK);
	return true;
}

static void create_whole(struct region *region)
{
	char line[64] = "";

	region->addr = map_alone(region->size);
	if (populate(region))
		return;
	/* Fragmentation is the usual reason, and can be cured. */
	region_unmap(region);
	try_write("/proc/sys/vm/drop_caches", "3");
	try_write("/proc/sys/vm/compact_memory", "1");
	region->addr = map_alone(region->size);
	if (populate(region))
		return;
	read_line(THP_SYSFS "enabled", line, sizeof(line));
	skip("got no huge page of %zu kB (enabled: %s)", region->size / 1024,
	     line);
}

/*
 * Protecting one page of it splits the PMD mapping, not the page.  A smaller
 * huge page is mapped by PTEs anyhow; protecting it changes nothing.
 */
void map_by_ptes(const struct region *region)
{
	size_t page = base_page_size();

	if (mprotect(region->addr + page, page, PROT_READ) ||
	    mprotect(region->addr + page, page, PROT_READ | PROT_WRITE))
		bail_out("mprotect");
}

static void keep_first_page(struct region *region)
{
	size_t page = base_page_size();

	if (madvise(region->addr + page, region->size - page, MADV_DONTNEED))
		bail_out("madvise MADV_DONTNEED");
	region->size = page;
}

static void move_upper_half(struct region *region)
{
	size_t half = region->size / 2;
	unsigned char *elsewhere = map_alone(half);

	if (mremap(region->addr + half, half, half,
		   MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) != elsewhere)
		bail_out("mremap");
	region->size = half;
}

/* The first page counts as shared from then on, the others do not. */
static void share_first_page(const struct region *region)
{
	size_t page = base_page_size();
	unsigned char *rest = region->addr + page;
	size_t rest_size = region->size - page;
	pid_t child;
	int status;

	if (madvise(rest, rest_size, MADV_DONTFORK))
		bail_out("madvise MADV_DONTFORK");
	child = fork();
	if (child < 0)
		bail_out("fork");
	if (!child)
		_exit(0);
	if (waitpid(child, &status, 0) != child)
		bail_out("waitpid");
	if (madvise(rest, rest_size, MADV_DOFORK))
		bail_out("madvise MADV_DOFORK");
}

struct region create_thp(const struct memory *memory)
{
	struct region region = {
		.memory = memory,
		.size = memory->size,
		.original = BEFORE_FORK,
	};
	size_t folio_size;

	if (!pmd_size())
		skip("kernel without transparent huge pages: no %s",
		     THP_SYSFS "hpage_pmd_size");
	send_khugepaged_to_sleep();
	if (region.size)
		allow_size(region.size);
	else
		region.size = pmd_size();
	folio_size = region.size;
	create_whole(&region);
	if (region_in(&region, PMD_FORMS))
		return region;

	switch (memory->form) {
	case THP_SINGLE:
	case THP_SINGLE_SWAP:
		keep_first_page(&region);
		break;
	case THP_MREMAP:
		move_upper_half(&region);
		break;
	case THP_SHARED:
		share_first_page(&region);
		break;
	default:
		map_by_ptes(&region);
	}
	if (pagemap_pmd_mapped(getpid(), &region))
		skip("the huge page is still mapped by a PMD");
	if (!pagemap_one_folio(&region, folio_size))
		skip("the huge page was split");
	return region;
}
