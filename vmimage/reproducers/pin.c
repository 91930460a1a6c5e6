#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pin.h"
#include "repro.h"

/*
 * As much as is looked at page by page (sample.c).  What is larger is one
 * hugetlb page, pinned as a whole by pinning any part of it.
 */
#define PIN_AT_MOST ((size_t)2 << 20)

struct pin pin_open(const struct pin_user *user, const struct region *region)
{
	struct pin pin = { .user = user, .size = region->size, .fd = -1 };

	if (pin.size > PIN_AT_MOST)
		pin.size = PIN_AT_MOST;
	pin.must_be_granted = region_in(region, ANON_FORMS | FORM_BIT(KSM));
	user->open(&pin);
	return pin;
}

void pin_take(struct pin *pin, const struct region *region)
{
	pin->user->take(pin, region);
}

void pin_refused(const struct pin *pin)
{
	/* Having no memory for it is not a refusal. */
	if (!pin->must_be_granted || errno == ENOMEM)
		return;
	diagnostic("%s: expected it, saw %s: pin refused", pin->user->name,
		   strerror(errno));
	fail();
}

void pin_expect_write(struct pin *pin, const struct region *region)
{
	unsigned char *bytes = malloc(pin->size);

	if (!bytes)
		bail_out("malloc");
	pin->user->read_back(pin, bytes);
	expect_region(region, AFTER_FORK, region->original,
		      "memory after the process wrote to it",
		      "the process lost its own write: corruption");
	expect_bytes(bytes, pin->size, AFTER_FORK, region->original,
		     "pinned page after the process wrote to its memory",
		     "the pin kept the old page: wrong COW");
	free(bytes);
}

void pin_release(struct pin *pin)
{
	pin->user->release(pin);
}
