/*
 * The kernel's own test device holds a long-term pin over several requests,
 * read-only or for writing, by way of the mmap lock or without it (GUP-fast).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "gup_test_abi.h"
#include "pin.h"
#include "repro.h"

static void open_gup_test(struct pin *pin)
{
	pin->fd = open(GUP_TEST_PATH, O_RDWR | O_CLOEXEC);
	if (pin->fd < 0)
		skip("no %s: %s", GUP_TEST_PATH, strerror(errno));
	/*
	 * START reports an unknown request and a refused one alike; STOP is
	 * always accepted where it is known.
	 */
	if (!ioctl(pin->fd, PIN_LONGTERM_TEST_STOP))
		return;
	if (errno != EINVAL && errno != ENOTTY)
		bail_out("ioctl PIN_LONGTERM_TEST_STOP");
	skip("gup_test without PIN_LONGTERM_TEST requests (6.2, or backported)");
}

static void start(struct pin *pin, const struct region *region, __u32 flags)
{
	struct pin_longterm_test request = {
		.addr = (uintptr_t)region->addr,
		.size = pin->size,
		.flags = flags,
	};

	if (!ioctl(pin->fd, PIN_LONGTERM_TEST_START, &request))
		return;
	pin_refused(pin);
	bail_out("ioctl PIN_LONGTERM_TEST_START");
}

static void start_ro(struct pin *pin, const struct region *region)
{
	start(pin, region, 0);
}

static void start_ro_fast(struct pin *pin, const struct region *region)
{
	start(pin, region, PIN_LONGTERM_TEST_FLAG_USE_FAST);
}

static void start_rw(struct pin *pin, const struct region *region)
{
	start(pin, region, PIN_LONGTERM_TEST_FLAG_USE_WRITE);
}

static void start_rw_fast(struct pin *pin, const struct region *region)
{
	start(pin, region, PIN_LONGTERM_TEST_FLAG_USE_WRITE |
			   PIN_LONGTERM_TEST_FLAG_USE_FAST);
}

static void read_back(struct pin *pin, unsigned char *bytes)
{
	__u64 addr = (uintptr_t)bytes;

	if (ioctl(pin->fd, PIN_LONGTERM_TEST_READ, &addr))
		bail_out("ioctl PIN_LONGTERM_TEST_READ");
}

static void stop(struct pin *pin)
{
	if (ioctl(pin->fd, PIN_LONGTERM_TEST_STOP))
		bail_out("ioctl PIN_LONGTERM_TEST_STOP");
}

const struct pin_user gup_test_ro = {
	"a read-only long-term pin", open_gup_test, start_ro, read_back, stop,
};
const struct pin_user gup_test_ro_fast = {
	"a read-only long-term pin by GUP-fast", open_gup_test, start_ro_fast,
	read_back, stop,
};
const struct pin_user gup_test_rw = {
	"a long-term pin", open_gup_test, start_rw, read_back, stop,
};
const struct pin_user gup_test_rw_fast = {
	"a long-term pin by GUP-fast", open_gup_test, start_rw_fast, read_back,
	stop,
};
