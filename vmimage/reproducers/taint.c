/*
 * Some bugs show in a warning only.  The host reads the console as well; this
 * tells which test it was.
 */
#include "repro.h"

/* Documentation/admin-guide/tainted-kernels.rst */
#define TAINT_BAD_PAGE (1u << 5)
#define TAINT_DIE (1u << 7)
#define TAINT_WARN (1u << 9)

unsigned int kernel_complaints(void)
{
	long long taints = read_number("/proc/sys/kernel/tainted");

	if (taints < 0)
		return 0;
	return taints & (TAINT_BAD_PAGE | TAINT_DIE | TAINT_WARN);
}

void expect_no_complaint(unsigned int before, const char *after_what)
{
	unsigned int since = kernel_complaints() & ~before;

	if (!since)
		return;
	diagnostic("%s: the kernel complained (taint %#x): %s", after_what,
		   since, since & TAINT_BAD_PAGE ? "bad page" : "warning");
	fail();
}
