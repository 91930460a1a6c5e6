/*
 * Once userfaultfd has write-protected a page, nobody writes to it, neither
 * through an old translation on another CPU.  The two threads that protect and
 * unprotect hold the mmap lock together; a translation that the one has still
 * to flush must not be relied on by the other.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "race.h"
#include "repro.h"
#include "uffd.h"

struct protection {
	const struct region *region;
	int uffd;
	unsigned long number;
};

static volatile unsigned long *word(const struct protection *p)
{
	return (void *)p->region->addr;
}

static bool write_and_read_back(void *context)
{
	struct protection *p = context;
	unsigned long number = p->number + 1;

	*word(p) = number;
	p->number = number;
	return *word(p) != number;
}

static void set_protection(struct protection *p, bool on)
{
	struct uffdio_writeprotect request = {
		.range = {
			.start = (uintptr_t)p->region->addr,
			.len = p->region->size,
		},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	if (ioctl(p->uffd, UFFDIO_WRITEPROTECT, &request) && errno != EAGAIN)
		bail_out("ioctl UFFDIO_WRITEPROTECT");
}

static bool protect_and_watch(void *context)
{
	struct protection *p = context;
	struct uffd_msg message;
	unsigned long before;
	bool changed = false;

	set_protection(p, true);
	before = *word(p);
	for (int i = 0; i < 1000 && !changed; i++)
		changed = *word(p) != before;
	set_protection(p, false);
	/* Unprotecting has woken the writer; nobody asks for the message. */
	while (read(p->uffd, &message, sizeof(message)) > 0)
		continue;
	return changed;
}

static void writes_stop(struct region *region, const struct repro_case *self)
{
	struct race *race = race_start(self->race_seconds);
	struct protection p = {
		.region = region,
		.uffd = uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP),
	};
	struct spliced spliced = splice_region(region);

	/* With a reference too many the page is copied where that is the rule. */
	(void)spliced;
	uffd_register(p.uffd, region->addr, region->size,
		      UFFDIO_REGISTER_MODE_WP);
	uffd_set_nonblocking(p.uffd);
	race_add(race, write_and_read_back, &p);
	if (race_run(race, protect_and_watch, &p)) {
		diagnostic("memory that userfaultfd write-protects: expected no write, or one that stays: the write went by or was lost: corruption");
		fail();
	}
	pass();
}

const struct repro_case race_uffd_wp_cases[] = {
	{
		.name = "race-uffd-wp",
		.description = "nobody writes to a page after userfaultfd has write-protected it, and no write is lost",
		.class = "race",
		.source = "commit 6ce64428d620 (5.12), mm/userfaultfd: fix memory corruption due to writeprotect; visible since 09854ba94c6a (5.9)",
		.forms = FORM_BIT(BASE),
		.needs = { "uffd_wp", "smp" },
		.race_seconds = 5,
		.run = writes_stop,
	},
	{ .name = NULL }
};
