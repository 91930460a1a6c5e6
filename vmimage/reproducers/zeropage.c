/* Private memory that was only read so far: a page of zeroes that all share. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "repro.h"

#define USE_ZERO_PAGE "/sys/kernel/mm/transparent_hugepage/use_zero_page"

static unsigned char *map_zeroes(size_t size, bool huge)
{
	unsigned char *addr = map_alone(size);

	if (huge && madvise(addr, size, MADV_HUGEPAGE))
		skip("kernel without transparent huge pages: %s",
		     strerror(errno));
	(void)*(volatile unsigned char *)addr;
	return addr;
}

struct region create_zeropage(const struct memory *memory)
{
	bool huge = memory->form == HUGE_ZEROPAGE;
	struct region region = { .memory = memory, .original = 0 };

	region.size = huge ? pmd_size() : base_page_size();
	if (!region.size)
		skip("kernel without transparent huge pages");
	/* Off on machines of less than 512 MB, like huge pages themselves. */
	if (huge && read_number(USE_ZERO_PAGE) == 0)
		try_write(USE_ZERO_PAGE, "1");
	region.addr = map_zeroes(region.size, huge);
	region.other = map_zeroes(region.size, huge);
	/* Reading the first byte must have mapped all of it. */
	require_present(getpid(), &region);
	if (!pagemap_has_kpageflag(region.addr, KPAGEFLAG_ZERO_PAGE))
		skip("memory that was only read is not a page of zeroes");
	if (pagemap_frame(getpid(), region.addr) !=
	    pagemap_frame(getpid(), region.other))
		skip("two mappings of zeroes are not one page");
	return region;
}
