/*
 * The part of /sys/kernel/debug/gup_test used here.  It is private to the
 * kernel tree (mm/gup_test.h), so no installed header has it.  Linux 6.2.
 */
#ifndef GUP_TEST_ABI_H
#define GUP_TEST_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define GUP_TEST_PATH "/sys/kernel/debug/gup_test"

struct pin_longterm_test {
	__u64 addr;
	__u64 size;
	__u32 flags;	/* none: a read-only pin taken with the mmap lock */
};

#define PIN_LONGTERM_TEST_FLAG_USE_WRITE 1
#define PIN_LONGTERM_TEST_FLAG_USE_FAST 2

#define PIN_LONGTERM_TEST_START _IOW('g', 7, struct pin_longterm_test)
#define PIN_LONGTERM_TEST_STOP _IO('g', 8)
/* The argument points to the address the pinned pages are copied to. */
#define PIN_LONGTERM_TEST_READ _IOW('g', 9, __u64)

#endif
