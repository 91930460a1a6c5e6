/*
 * A disk's data must arrive in the page that the process maps, whatever it does
 * to that page while the read is under way.  Until 6.5 the page was referred to
 * (FOLL_GET) but not pinned, so write-protecting it in between made the next
 * write to it a copy, and the data went to the old page.
 *
 * To be certain that the read is under way it goes to two pages, of which the
 * second is not there: the kernel holds the first one and waits for userfaultfd
 * to provide the other.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "block_device.h"
#include "repro.h"
#include "uffd.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

struct reading {
	struct block_device device;
	struct iovec to[2];
	ssize_t result;
	int error;
};

static void *read_device(void *context)
{
	struct reading *reading = context;

	reading->result = preadv(reading->device.fd, reading->to, 2, 0);
	reading->error = errno;
	return NULL;
}

/* Where the process writes: in the page, behind the disk's data if it can be. */
static unsigned char *other_byte(const struct region *region)
{
	return region->addr + base_page_size() - 1;
}

static void interfere(struct region *region,
		      void (*write_protect)(const struct region *))
{
	struct reading reading = { .device = find_block_device() };
	int uffd = uffd_open(0);
	unsigned char *missing = map_alone(base_page_size());
	size_t block = reading.device.block;
	pthread_t reader;

	uffd_register(uffd, missing, base_page_size(),
		      UFFDIO_REGISTER_MODE_MISSING);
	reading.to[0] = (struct iovec){ region->addr, block };
	reading.to[1] = (struct iovec){ missing, block };
	errno = pthread_create(&reader, NULL, read_device, &reading);
	if (errno)
		bail_out("pthread_create");
	uffd_await_fault(uffd);

	write_protect(region);
	/* A page that is read first comes back read-only, if it was swapped out. */
	(void)*(volatile unsigned char *)other_byte(region);
	*other_byte(region) = AFTER_FORK;

	uffd_give_zeroes(uffd, missing, base_page_size());
	pthread_join(reader, NULL);
	errno = reading.error;
	if (reading.result < 0)
		bail_out("read /dev/%s", reading.device.name);
	errno = 0;
	if ((size_t)reading.result != 2 * block)
		bail_out("read %zd of %zu bytes from /dev/%s", reading.result,
			 2 * block, reading.device.name);

	if (block < base_page_size() && *other_byte(region) != AFTER_FORK) {
		diagnostic("byte behind the disk's data: expected 0x%02x, saw 0x%02x: the process lost its own write: corruption",
			   AFTER_FORK, *other_byte(region));
		fail();
	}
	if (memcmp(region->addr, reading.device.content, block)) {
		diagnostic("memory read to from /dev/%s: expected 0x%02x, saw 0x%02x at offset 0: the data went to another page: wrong COW",
			   reading.device.name, reading.device.content[0],
			   region->addr[0]);
		fail();
	}
	pass();
}

static void by_fork(const struct region *region)
{
	peer_fork(peer_idle, region);
}

static void during_fork(struct region *region, const struct repro_case *self)
{
	(void)self;
	interfere(region, by_fork);
}

static void by_clear_refs(const struct region *region)
{
	(void)region;
	clear_soft_dirty();
}

static void during_clear_refs(struct region *region,
			      const struct repro_case *self)
{
	(void)self;
	interfere(region, by_clear_refs);
}

/* A pinned page stays, which is as well; that others go is the control. */
static void by_swapping(const struct region *region)
{
	struct region control = *region;

	control.addr = map_alone(base_page_size());
	region_fill(&control, BEFORE_FORK);
	if (madvise(region->addr, region->size, MADV_PAGEOUT))
		skip("kernel without MADV_PAGEOUT: %s", strerror(errno));
	region_swap_out(&control);
}

static void during_swapping(struct region *region,
			    const struct repro_case *self)
{
	(void)self;
	interfere(region, by_swapping);
}

#define SUMMARY "David Hildenbrand's summary of wrong COWs, class D; FOLL_PIN for block devices since 6.5 (1ccf164ec866 and others)"
#define NEEDS_DISK(...) { "block_device", "userfaultfd", ##__VA_ARGS__ }
#define FORMS_READ_TO (FORM_BIT(BASE) | FORM_BIT(THP_PMD) | FORM_BIT(THP_PTE))

const struct repro_case direct_io_cases[] = {
	{
		.name = "direct-io-fork",
		.description = "a direct read arrives although the process forks and writes to the page meanwhile",
		.class = "wrong-cow",
		.source = SUMMARY,
		.forms = FORMS_READ_TO,
		.pmd_size_only = true,
		.needs = NEEDS_DISK(),
		.run = during_fork,
	},
	{
		.name = "direct-io-soft-dirty",
		.description = "a direct read arrives although the page is write-protected by clear_refs and written to meanwhile",
		.class = "wrong-cow",
		.source = SUMMARY,
		.forms = FORMS_READ_TO,
		.pmd_size_only = true,
		.needs = NEEDS_DISK("soft_dirty"),
		.run = during_clear_refs,
	},
	{
		.name = "direct-io-swap",
		.description = "a direct read arrives although the page is swapped out and written to meanwhile",
		.class = "wrong-cow",
		.source = SUMMARY,
		.forms = FORM_BIT(BASE),
		.needs = NEEDS_DISK("swap"),
		.run = during_swapping,
	},
	{ .name = NULL }
};
