/*
 * A fixed buffer of io_uring is pinned for long and for writing, whatever it
 * is used for.  Unprivileged users have it, unlike gup_test.
 */
#include <errno.h>
#include <string.h>

#include "pin.h"
#include "repro.h"
#include "ring.h"

static void open_ring(struct pin *pin)
{
	pin->data = ring_open();
}

static void register_buffer(struct pin *pin, const struct region *region)
{
	pin->addr = region->addr;
	if (ring_try_buffer(pin->data, pin->addr, pin->size))
		return;
	pin_refused(pin);
	skip("io_uring does not register a buffer: %s", strerror(errno));
}

static void read_back(struct pin *pin, unsigned char *bytes)
{
	ring_read_back(pin->data, pin->addr, pin->size, bytes);
}

static void unregister_buffer(struct pin *pin)
{
	ring_unregister_buffers(pin->data);
	ring_close(pin->data);
}

const struct pin_user io_uring_fixed = {
	"a fixed buffer of io_uring", open_ring, register_buffer, read_back,
	unregister_buffer,
};
