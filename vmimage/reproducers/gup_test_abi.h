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

/*
 * Requests that pin and let go at once.  Until 5.10 the file, the structure and
 * the numbers were others.
 */
struct gup_test {
	__u64 get_delta_usec;
	__u64 put_delta_usec;
	__u64 addr;
	__u64 size;
	__u32 nr_pages_per_call;
	__u32 gup_flags;
	__u32 test_flags;
	__u32 which_pages[8];
};

#define PIN_FAST_BENCHMARK _IOWR('g', 2, struct gup_test)
#define PIN_LONGTERM_BENCHMARK _IOWR('g', 3, struct gup_test)
#define GUP_BASIC_TEST _IOWR('g', 4, struct gup_test)
#define PIN_BASIC_TEST _IOWR('g', 5, struct gup_test)

#define GUP_BENCHMARK_PATH "/sys/kernel/debug/gup_benchmark"

struct gup_benchmark {
	__u64 get_delta_usec;
	__u64 put_delta_usec;
	__u64 addr;
	__u64 size;
	__u32 nr_pages_per_call;
	__u32 flags;
	__u64 expansion[10];
};

#define OLD_GUP_BENCHMARK _IOWR('g', 2, struct gup_benchmark)
#define OLD_PIN_FAST_BENCHMARK _IOWR('g', 3, struct gup_benchmark)
#define OLD_PIN_BENCHMARK _IOWR('g', 4, struct gup_benchmark)
#define OLD_PIN_LONGTERM_BENCHMARK _IOWR('g', 5, struct gup_benchmark)

#endif
