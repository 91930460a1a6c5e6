/*
 * Dirty COW and its relatives: a forced write breaks COW, the copy is thrown
 * away before the write, and a second look takes the mark of the first for
 * permission to write to what is shared.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "race.h"
#include "repro.h"
#include "uffd.h"

struct force_write {
	const struct region *region;
	int mem, uffd;
	_Atomic unsigned long mapped;	/* by UFFDIO_CONTINUE */
};

static bool write_by_force(void *context)
{
	const struct force_write *w = context;
	unsigned char byte = AFTER_FORK;

	/* That it fails now and then is part of the race. */
	if (pwrite(w->mem, &byte, 1, (uintptr_t)w->region->addr) < 0)
		errno = 0;
	return w->region->other[0] != w->region->original;
}

static bool throw_copy_away(void *context)
{
	const struct force_write *w = context;

	madvise(w->region->addr, w->region->size, MADV_DONTNEED);
	/* Back to the shared page, which is read-only. */
	(void)*(volatile unsigned char *)w->region->addr;
	return false;
}

/* With minor faults watched, reading would wait: the next thread maps it. */
static bool throw_copy_away_only(void *context)
{
	const struct force_write *w = context;

	madvise(w->region->addr, w->region->size, MADV_DONTNEED);
	return false;
}

static bool map_dirty(void *context)
{
	struct force_write *w = context;
	struct uffdio_continue request = {
		.range = {
			.start = (uintptr_t)w->region->addr,
			.len = w->region->size,
		},
	};

	/* Refused while it is mapped. */
	if (!ioctl(w->uffd, UFFDIO_CONTINUE, &request))
		w->mapped++;
	return false;
}

static void prepare(struct force_write *w, const struct region *region)
{
	unsigned char byte = AFTER_FORK;

	w->region = region;
	if (mprotect(region->addr, region->size, PROT_READ))
		bail_out("mprotect to read-only");
	w->mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (w->mem < 0)
		skip("open /proc/self/mem: %s", strerror(errno));
	/* Without interference it must work, or there is no race. */
	if (pwrite(w->mem, &byte, 1, (uintptr_t)region->addr) != 1)
		skip("/proc/self/mem does not write to read-only memory (CONFIG_PROC_MEM_ALWAYS_FORCE, proc_mem.force_override=): %s",
		     strerror(errno));
}

static _Noreturn void judge(const struct region *region, bool wrong)
{
	if (!wrong)
		pass();
	expect_bytes(region->other, region->size, region->original, AFTER_FORK,
		     "the other mapping after writes by /proc/self/mem to the private one",
		     "the write is visible: missed COW");
	errno = 0;
	bail_out("the write was visible for a moment only");
}

static void dirty_cow(struct region *region, const struct repro_case *self)
{
	struct force_write w = { .mapped = 0 };
	struct race *race;

	prepare(&w, region);
	race = race_start(self->race_seconds);
	race_add(race, throw_copy_away, &w);
	judge(region, race_run(race, write_by_force, &w));
}

static void dirty_cow_minor(struct region *region,
			    const struct repro_case *self)
{
	struct force_write w = { .mapped = 0 };
	struct race *race;
	bool wrong;

	prepare(&w, region);
	race = race_start(self->race_seconds);
	w.uffd = uffd_open(UFFD_FEATURE_MINOR_SHMEM);
	uffd_register(w.uffd, region->addr, region->size,
		      UFFDIO_REGISTER_MODE_MINOR);
	race_add(race, throw_copy_away_only, &w);
	race_add(race, map_dirty, &w);
	wrong = race_run(race, write_by_force, &w);
	if (!wrong && !w.mapped)
		skip("UFFDIO_CONTINUE never mapped the page");
	judge(region, wrong);
}

const struct repro_case race_force_write_cases[] = {
	{
		.name = "race-force-write",
		.description = "a write by /proc/self/mem to a private mapping whose copy is thrown away meanwhile is never seen elsewhere",
		.class = "race",
		.source = "CVE-2016-5195 (LTP dirtyc0w), 19be0eaffa3a (4.9); for the huge page of zeroes CVE-2017-1000405 (LTP thp04), a8f97366452e (4.15)",
		.forms = FORM_BIT(MEMFD) | FORM_BIT(TMPFILE) |
			 FORM_BIT(PRIVATE_FILE) | FORM_BIT(ZEROPAGE) |
			 FORM_BIT(HUGE_ZEROPAGE),
		.needs = { "proc_mem_force", "smp" },
		.race_seconds = 5,
		.run = dirty_cow,
	},
	{
		.name = "race-force-write-minor",
		.description = "the same while userfaultfd maps the file's page by UFFDIO_CONTINUE",
		.class = "race",
		.source = "CVE-2022-2590 (LTP dirtyc0w_shmem); bad since 9ae0f87d009c (5.16), fixed by 5535be309971 (6.0)",
		.forms = FORM_BIT(MEMFD) | FORM_BIT(TMPFILE),
		.needs = { "proc_mem_force", "uffd_minor_shmem", "smp" },
		.race_seconds = 10,
		.run = dirty_cow_minor,
	},
	{ .name = NULL }
};
