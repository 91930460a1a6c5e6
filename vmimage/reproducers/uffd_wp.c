/*
 * Memory that userfaultfd watches for writes stays watched: in the child, if
 * the watcher is told of forks, and in the copy that fork() makes of a pinned
 * page at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pin.h"
#include "repro.h"
#include "uffd.h"

/* Of a file in memory the shared mapping is what there is to watch. */
static struct region watched_part(const struct region *region)
{
	struct region part = *region;

	if (part.other)
		part.addr = part.other;
	return part;
}

static int watch(const struct region *region, uint64_t features)
{
	int uffd = uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP | features);

	uffd_register(uffd, region->addr, region->size,
		      UFFDIO_REGISTER_MODE_WP);
	uffd_write_protect(uffd, region->addr, region->size);
	if (!pagemap_uffd_wp(getpid(), region))
		skip("pagemap does not show what userfaultfd write-protects (5.13)");
	return uffd;
}

static void expect_watched(pid_t pid, const struct region *region, bool watched,
			   const char *whose)
{
	if (pagemap_uffd_wp(pid, region) == watched)
		return;
	diagnostic("%s memory after fork(): expected it %s for writes: %s",
		   whose, watched ? "watched" : "not watched",
		   watched ? "write protection lost" : "nobody would answer");
	fail();
}

/* fork() waits until the watcher has taken the child's descriptor. */
static void *take_event(void *context)
{
	struct uffd_msg message;

	if (read(*(int *)context, &message, sizeof(message)) < 0)
		return NULL;
	return message.event == UFFD_EVENT_FORK ? context : NULL;
}

static void fork_told(const struct region *region)
{
	int uffd = watch(region, UFFD_FEATURE_EVENT_FORK);
	struct peer *child;
	pthread_t watcher;
	void *told;

	errno = pthread_create(&watcher, NULL, take_event, &uffd);
	if (errno)
		bail_out("pthread_create");
	child = peer_fork(peer_keeps_copy, region);
	pthread_join(watcher, &told);
	errno = 0;
	if (!told)
		bail_out("userfaultfd did not tell of the fork");
	expect_watched(getpid(), region, true, "parent's");
	expect_watched(peer_pid(child), region, true, "child's");
	peer_finish(child);
	pass();
}

static void with_event(struct region *region, const struct repro_case *self)
{
	struct region part = watched_part(region);

	(void)self;
	fork_told(&part);
}

static void pinned(struct region *region, const struct repro_case *self)
{
	struct region part = watched_part(region);
	struct pin pin = pin_open(self->pin, &part);

	pin_take(&pin, &part);
	fork_told(&part);
}

static void without_event(struct region *region, const struct repro_case *self)
{
	struct region part = watched_part(region);
	struct peer *child;

	(void)self;
	watch(&part, 0);
	child = peer_fork(peer_idle, &part);
	expect_watched(getpid(), &part, true, "parent's");
	expect_watched(peer_pid(child), &part, false, "child's");
	pass();
}

static void ksm_unmerge(struct region *region, const struct repro_case *self)
{
	(void)self;
	watch(region, 0);
	if (madvise(region->addr, region->size, MADV_UNMERGEABLE))
		bail_out("madvise MADV_UNMERGEABLE");
	/* Not by its flag: 6.12 says of all anonymous pages that they are merged. */
	if (pagemap_frame(getpid(), region->addr) ==
	    pagemap_frame(getpid(), region->other)) {
		diagnostic("memory after MADV_UNMERGEABLE: expected a page of its own: still merged");
		fail();
	}
	expect_watched(getpid(), region, true, "unmerged");
	expect_region(region, BEFORE_FORK, AFTER_FORK, "unmerged memory",
		      "nobody has written: corruption");
	pass();
}

#define SELFTEST "tools/testing/selftests/mm/uffd-unit-tests.c: "
#define WATCHABLE (FORM_BIT(BASE) | FORM_BIT(SWAP) | FORM_BIT(THP_PMD) | \
		   FORM_BIT(THP_PTE) | FORM_BIT(HUGETLB) | FORM_BIT(MEMFD) | \
		   FORM_BIT(MEMFD_HUGETLB))

const struct repro_case uffd_wp_cases[] = {
	{
		.name = "uffd-wp-fork",
		.description = "memory watched for writes stays watched in a child whose fork is told of",
		.class = "policy",
		.source = SELFTEST "wp-fork-with-event",
		.forms = WATCHABLE,
		.needs = { "uffd_wp" },
		.run = with_event,
	},
	{
		.name = "uffd-wp-fork-untold",
		.description = "memory watched for writes is not watched in a child whose fork is not told of",
		.class = "policy",
		.source = SELFTEST "wp-fork",
		.forms = WATCHABLE,
		.needs = { "uffd_wp" },
		.run = without_event,
	},
	{
		.name = "uffd-wp-fork-pinned",
		.description = "pinned memory watched for writes stays watched in a child whose fork is told of",
		.class = "wrong-cow",
		.source = SELFTEST "wp-fork-pin-with-event",
		.forms = WATCHABLE & ~FORM_BIT(SWAP),
		.needs = { "uffd_wp", "io_uring" },
		.pin = &io_uring_fixed,
		.run = pinned,
	},
	{
		.name = "ksm-unmerge-uffd-wp",
		.description = "unmerging a page that is watched for writes gives the process its own",
		.class = "wrong-cow",
		.source = "mm/ksm: fix KSM COW breaking with userfaultfd-wp via FAULT_FLAG_UNSHARE (6.2)",
		.forms = FORM_BIT(KSM),
		.needs = { "uffd_wp" },
		.run = ksm_unmerge,
	},
	{ .name = NULL }
};
