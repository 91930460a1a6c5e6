#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
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

size_t base_page_size(void)
{
	static size_t size;

	if (!size)
		size = sysconf(_SC_PAGESIZE);
	return size;
}

unsigned char *map_alone(size_t size)
{
	uintptr_t reserved, start;

	reserved = (uintptr_t)mmap(NULL, 2 * size + base_page_size(), PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (reserved == (uintptr_t)MAP_FAILED)
		bail_out("mmap %zu bytes", 2 * size + base_page_size());

	/* At least one page is left on either side. */
	start = (reserved + base_page_size() + size - 1) & ~(size - 1);
	if (mprotect((void *)start, size, PROT_READ | PROT_WRITE))
		bail_out("mprotect");
	return (unsigned char *)start;
}

struct region create_base(const struct memory *memory)
{
	struct region region = {
		.memory = memory,
		.size = base_page_size(),
		.original = BEFORE_FORK,
	};

	region.addr = map_alone(region.size);
	region_fill(&region, BEFORE_FORK);
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
 * fork(); and pages which are still on a CPU's way to the LRU lists.  Ours are
 * on the way of this CPU, whose list MADV_PAGEOUT itself empties, unless we
 * were moved away in between: then a request that empties all lists helps.
 */
void region_swap_out(const struct region *region)
{
	const struct timespec pause = { .tv_nsec = 5 * 1000 * 1000 };

	if (!any_swap_area())
		skip("no swap area in use");

	for (int attempt = 1; attempt <= 40; attempt++) {
		if (madvise(region->addr, region->size, MADV_PAGEOUT))
			skip("kernel without MADV_PAGEOUT: %s",
			     strerror(errno));
		if (pagemap_swapped(region))
			return;
		if (attempt % 8 == 2)
			try_write("/proc/sys/vm/compact_memory", "1");
		if (attempt > 2)
			nanosleep(&pause, NULL);
	}
	skip("the kernel did not swap the memory out");
}

static struct region create(const struct memory *memory)
{
	switch (memory->form) {
	case BASE:
	case SWAP:
		return create_base(memory);
	case THP_PMD:
	case THP_PMD_SWAP:
	case THP_PTE:
	case THP_PTE_SWAP:
	case THP_SINGLE:
	case THP_SINGLE_SWAP:
	case THP_MREMAP:
	case THP_SHARED:
		return create_thp(memory);
	case HUGETLB:
		return create_hugetlb(memory);
	case ZEROPAGE:
	case HUGE_ZEROPAGE:
		return create_zeropage(memory);
	case MEMFD:
	case TMPFILE:
	case PRIVATE_FILE:
	case MEMFD_HUGETLB:
		return create_file(memory);
	case KSM:
		return create_ksm(memory);
	case SECRETMEM:
		return create_secretmem(memory);
	case FORMS:
		break;
	}
	errno = 0;
	bail_out("form %d of memory", memory->form);
}

struct region region_create(const struct memory *memory)
{
	struct region region;
	cpu_set_t before, here;
	int cpu;

	if (!(FORM_BIT(memory->form) & SWAP_FORMS))
		return create(memory);

	/* One CPU, for what region_swap_out() says. */
	CPU_ZERO(&here);
	cpu = sched_getcpu();
	if (cpu >= 0)
		CPU_SET(cpu, &here);
	if (sched_getaffinity(0, sizeof(before), &before))
		bail_out("sched_getaffinity");
	sched_setaffinity(0, sizeof(here), &here);
	region = create(memory);
	region_swap_out(&region);
	sched_setaffinity(0, sizeof(before), &before);
	return region;
}

bool region_in(const struct region *region, unsigned int forms)
{
	return FORM_BIT(region->memory->form) & forms;
}

void region_fill(const struct region *region, int byte)
{
	sample_fill(region->addr, region->size, byte);
}

static void read_one(size_t offset, size_t length, void *context)
{
	(void)length;
	(void)*((const volatile unsigned char *)context + offset);
}

void region_read(const struct region *region)
{
	sample_visit(region->size, read_one, region->addr);
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

void expect_region(const struct region *region, int byte, int instead,
		   const char *where, const char *otherwise)
{
	expect_bytes(region->addr, region->size, byte, instead, where,
		     otherwise);
}
