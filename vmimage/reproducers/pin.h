/*
 * Who pins user memory.  A case that wants a pin takes it from any of these;
 * one more user is one more of them, and a row per case in its table.
 */
#ifndef PIN_H
#define PIN_H

#include <stdbool.h>
#include <stddef.h>

struct region;

struct pin {
	const struct pin_user *user;
	size_t size;	/* of what is pinned: the beginning of the region */
	/* pin_refused() is then the verdict; so it is of anonymous memory. */
	bool must_be_granted;
	/* The user's own: */
	int fd;
	void *addr;
	void *data;
};

struct pin_user {
	/* What the kernel calls it, for messages. */
	const char *name;
	/* Skips the test if the user cannot be had; may choose a smaller size. */
	void (*open)(struct pin *pin);
	/* Pins pin->size bytes; skips or bails out if it cannot. */
	void (*take)(struct pin *pin, const struct region *region);
	/* What a device would see through the pin now. */
	void (*read_back)(struct pin *pin, unsigned char *bytes);
	void (*release)(struct pin *pin);
};

/* gup_test, long-term (pin_gup_test.c) */
extern const struct pin_user gup_test_ro;
extern const struct pin_user gup_test_ro_fast;
extern const struct pin_user gup_test_rw;
extern const struct pin_user gup_test_rw_fast;
/* A fixed buffer of io_uring: long-term, for writing (pin_io_uring.c) */
extern const struct pin_user io_uring_fixed;
/* A page that a device may read (pin_vfio.c): long-term, the first page only */
extern const struct pin_user vfio_ro;

/*
 * A user that is there, ready to pin that region.  Comes before anything that
 * prepares the memory, for it skips.
 */
struct pin pin_open(const struct pin_user *user, const struct region *region);
void pin_take(struct pin *pin, const struct region *region);
/*
 * For users whose take() the kernel has just refused, with the reason in errno:
 * fails where it must not.
 */
void pin_refused(const struct pin *pin);
/* Fails unless the pin shows AFTER_FORK, which was written to the region. */
void pin_expect_write(struct pin *pin, const struct region *region);
void pin_release(struct pin *pin);

#endif
