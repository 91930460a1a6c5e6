/*
 * Reclaim takes a page away while it is being pinned: it may be unmapped when
 * it gets the pin, and a copy is then mapped in its place.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pin.h"
#include "race.h"
#include "repro.h"
#include "ring.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

#define PAGES 32

struct buffer {
	struct ring *ring;
	unsigned char *addr;
	unsigned char *read_back;
	size_t size;
	int byte;
};

static bool swap_out(void *context)
{
	const struct buffer *buffer = context;

	madvise(buffer->addr, buffer->size, MADV_PAGEOUT);
	return false;
}

static bool register_and_compare(void *context)
{
	struct buffer *buffer = context;
	bool same;

	ring_register_buffer(buffer->ring, buffer->addr, buffer->size);
	buffer->byte ^= BEFORE_FORK ^ AFTER_FORK;
	sample_fill(buffer->addr, buffer->size, buffer->byte);
	ring_read_back(buffer->ring, buffer->addr, buffer->size,
		       buffer->read_back);
	same = all_bytes(buffer->read_back, buffer->size, buffer->byte);
	ring_unregister_buffers(buffer->ring);
	return !same;
}

static void reclaim(struct region *region, const struct repro_case *self)
{
	struct race *race = race_start(self->race_seconds);
	struct buffer buffer = {
		.ring = ring_open(),
		.size = PAGES * base_page_size(),
		.byte = BEFORE_FORK,
	};

	/* That swapping works at all */
	region_swap_out(region);
	buffer.addr = map_alone(buffer.size);
	buffer.read_back = map_alone(buffer.size);
	sample_fill(buffer.addr, buffer.size, BEFORE_FORK);
	race_add(race, swap_out, &buffer);
	if (!race_run(race, register_and_compare, &buffer))
		pass();
	expect_bytes(buffer.read_back, buffer.size, buffer.byte,
		     buffer.byte ^ BEFORE_FORK ^ AFTER_FORK,
		     "pinned pages after the process wrote to its memory",
		     "the pin kept the old page: wrong COW");
	errno = 0;
	bail_out("the pages differed for a moment only");
}

const struct repro_case race_reclaim_cases[] = {
	{
		.name = "race-reclaim-fixed-buffer",
		.description = "a fixed buffer of io_uring registered while its memory is swapped out follows the process's writes",
		.class = "race",
		.source = "Martin Raiber, io_uring fixed buffers and swap on 5.9 and 5.10; David Hildenbrand's io_uring_swap.c",
		.forms = FORM_BIT(BASE),
		.needs = { "io_uring", "swap", "smp" },
		.race_seconds = 5,
		.run = reclaim,
	},
	{ .name = NULL }
};
