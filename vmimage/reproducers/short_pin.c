/*
 * A pin that is let go at once shows in the page table what it did: a read-only
 * pin must not be of a page that a child shares, so the process has a page of
 * its own afterwards.  Whoever only asks for the page as it is now (FOLL_GET)
 * gets the shared one.  Kernels without requests that hold a pin have these,
 * under another name even 5.10.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "gup_test_abi.h"
#include "repro.h"

struct request {
	unsigned long code, old_code;
};

static const struct request get = { GUP_BASIC_TEST, OLD_GUP_BENCHMARK };
static const struct request pin = { PIN_BASIC_TEST, OLD_PIN_BENCHMARK };
static const struct request pin_fast = {
	PIN_FAST_BENCHMARK, OLD_PIN_FAST_BENCHMARK,
};
static const struct request pin_longterm = {
	PIN_LONGTERM_BENCHMARK, OLD_PIN_LONGTERM_BENCHMARK,
};

/*
 * What a pin may need in the worst case: a huge page for a copy and page tables,
 * and the reserve below which the kernel gives none (a few MiB in these guests).
 */
#define ENOUGH_MEMORY (16ull << 20)

/* Its answer is short whatever the reason, and having no memory is no refusal. */
static void expect_done(int result, __u64 got, __u64 wanted)
{
	struct sysinfo memory;

	if (result)
		bail_out("ioctl of gup_test");
	if (got != wanted) {
		if (sysinfo(&memory))
			bail_out("sysinfo");
		if ((__u64)memory.freeram * memory.mem_unit < ENOUGH_MEMORY) {
			errno = ENOMEM;
			bail_out("ioctl of gup_test");
		}
		diagnostic("gup_test: expected all of %llu bytes, saw %llu: pin refused",
			   (unsigned long long)wanted, (unsigned long long)got);
		fail();
	}
}

static void pin_and_let_go(const struct request *request,
			   const struct region *region)
{
	struct gup_test test = {
		.addr = (uintptr_t)region->addr,
		.size = region->size,
		.nr_pages_per_call = region->size / base_page_size(),
	};
	struct gup_benchmark old = {
		.addr = test.addr,
		.size = test.size,
		.nr_pages_per_call = test.nr_pages_per_call,
	};
	int fd = open(GUP_TEST_PATH, O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		int result = ioctl(fd, request->code, &test);

		expect_done(result, test.size, region->size);
	} else {
		int result;

		fd = open(GUP_BENCHMARK_PATH, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			skip("no %s: %s", GUP_TEST_PATH, strerror(errno));
		result = ioctl(fd, request->old_code, &old);
		expect_done(result, old.size, region->size);
	}
	close(fd);
}

static void read_and_stay(struct peer *parent, const struct region *region)
{
	region_read(region);
	peer_pass_turn(parent);
}

static void unshares(const struct request *request, struct region *region)
{
	struct peer *child = peer_fork(read_and_stay, region);

	/* What only one of them has read back from swap is not shared. */
	region_read(region);
	peer_pass_turn(child);
	require_present(getpid(), region);
	require_shared_with(peer_pid(child), region);
	pin_and_let_go(request, region);
	if (pagemap_any_shared_with(peer_pid(child), region)) {
		diagnostic("memory after a read-only pin: still the child's page: wrong COW on the next write");
		fail();
	}
	expect_region(region, BEFORE_FORK, AFTER_FORK,
		      "memory after a read-only pin",
		      "nobody has written: corruption");
	pass();
}

static void pin_unshares(struct region *region, const struct repro_case *self)
{
	(void)self;
	unshares(&pin, region);
}

static void pin_fast_unshares(struct region *region,
			      const struct repro_case *self)
{
	(void)self;
	unshares(&pin_fast, region);
}

static void pin_longterm_unshares(struct region *region,
				  const struct repro_case *self)
{
	(void)self;
	unshares(&pin_longterm, region);
}

static void get_keeps_shared(struct region *region,
			     const struct repro_case *self)
{
	struct peer *child = peer_fork(peer_idle, region);

	(void)self;
	require_shared_with(peer_pid(child), region);
	pin_and_let_go(&get, region);
	if (!pagemap_shared_with(peer_pid(child), region)) {
		diagnostic("memory after reading by FOLL_GET: no longer the child's page: unnecessary COW");
		fail();
	}
	pass();
}

#define UNSHARE "commit a7f226604170 (5.19), mm/gup: trigger FAULT_FLAG_UNSHARE when R/O-pinning a possibly shared anonymous page"

const struct repro_case short_pin_cases[] = {
	{
		.name = "ro-pin-unshares",
		.description = "a read-only pin is not of the page that a child shares",
		.class = "wrong-cow",
		.source = UNSHARE,
		.forms = ANON_FORMS,
		.needs = { "gup_test" },
		.run = pin_unshares,
	},
	{
		.name = "ro-pin-unshares-fast",
		.description = "a read-only pin by GUP-fast is not of the page that a child shares",
		.class = "wrong-cow",
		.source = UNSHARE,
		.forms = ANON_FORMS,
		.needs = { "gup_test" },
		.run = pin_fast_unshares,
	},
	{
		.name = "ro-pin-unshares-longterm",
		.description = "a read-only long-term pin is not of the page that a child shares",
		.class = "wrong-cow",
		.source = UNSHARE,
		.forms = ANON_FORMS,
		.needs = { "gup_test" },
		.run = pin_longterm_unshares,
	},
	{
		.name = "ro-get-keeps-shared",
		.description = "reading by FOLL_GET copies nothing",
		.class = "policy",
		.source = "commit c89357e27f20 (5.19): only FOLL_PIN unshares",
		.forms = ANON_FORMS & ~SWAP_FORMS,
		.needs = { "gup_test" },
		.run = get_keeps_shared,
	},
	{ .name = NULL }
};
