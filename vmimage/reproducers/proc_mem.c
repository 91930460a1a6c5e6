/*
 * A debugger may write where the process itself must not (FOLL_FORCE), but
 * only ever to a copy of the process's own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "repro.h"

struct writing {
	int fd;
	const struct region *region;
};

static void write_piece(size_t offset, size_t length, void *context)
{
	const struct writing *writing = context;
	unsigned char bytes[65536];
	ssize_t done;

	memset(bytes, AFTER_FORK, length);
	done = pwrite(writing->fd, bytes, length,
		      (uintptr_t)writing->region->addr + offset);
	if (done < 0 && (errno == EIO || errno == EACCES || errno == EPERM))
		skip("/proc/self/mem does not write to read-only memory (CONFIG_PROC_MEM_ALWAYS_FORCE, proc_mem.force_override=): %s",
		     strerror(errno));
	if (done != (ssize_t)length)
		bail_out("write /proc/self/mem");
}

static void write_read_only(const struct region *region)
{
	struct writing writing = { .region = region };

	if (mprotect(region->addr, region->size, PROT_READ))
		bail_out("mprotect to read-only");
	writing.fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	if (writing.fd < 0)
		skip("open /proc/self/mem: %s", strerror(errno));
	sample_visit(region->size, write_piece, &writing);
	close(writing.fd);
	expect_region(region, AFTER_FORK, region->original,
		      "memory after a write by /proc/self/mem",
		      "the write is not visible: wrong COW");
}

static void compare_on_turn(struct peer *parent, const struct region *region)
{
	(void)parent;
	expect_region(region, BEFORE_FORK, AFTER_FORK,
		      "child's memory after the parent wrote by /proc/self/mem",
		      "the parent's write is visible: missed COW");
}

static void after_fork(struct region *region, const struct repro_case *self)
{
	struct peer *child = peer_fork(compare_on_turn, region);

	(void)self;
	require_shared_with(peer_pid(child), region);
	write_read_only(region);
	peer_finish(child);
	pass();
}

static void private(struct region *region, const struct repro_case *self)
{
	(void)self;
	write_read_only(region);
	expect_bytes(region->other, region->size, region->original, AFTER_FORK,
		     "the other mapping after a write by /proc/self/mem to the private one",
		     "the write is visible: missed COW");
	pass();
}

const struct repro_case proc_mem_cases[] = {
	/* Not hugetlb: the kernel refuses to force a write there. */
	{
		.name = "proc-mem-write",
		.description = "a child does not see what its parent writes to read-only memory by /proc/self/mem",
		.class = "missed-cow",
		.source = "commit 5535be309971 (6.0), mm/gup: fix FOLL_FORCE COW security issue and remove FOLL_COW",
		.forms = ANON_FORMS & ~FORM_BIT(HUGETLB),
		.needs = { "proc_mem_force" },
		.run = after_fork,
	},
	{
		.name = "proc-mem-write-private",
		.description = "a write by /proc/self/mem to a read-only private mapping is seen there only",
		.class = "missed-cow",
		.source = "CVE-2016-5195 without the race, CVE-2022-2590 likewise; commit 5535be309971 (6.0)",
		.forms = NON_ANON_FORMS & ~FORM_BIT(MEMFD_HUGETLB),
		.needs = { "proc_mem_force" },
		.run = private,
	},
	{ .name = NULL }
};
