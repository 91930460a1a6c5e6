/* A private mapping of a file, beside a shared one of the same page. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "repro.h"

#define MEMFD_HUGETLB_FLAG 4	/* MFD_HUGETLB */

static int open_memfd(size_t huge_size)
{
	unsigned int flags = 0;
	int fd;

	if (huge_size)
		flags = MEMFD_HUGETLB_FLAG |
			(hugetlb_map_flags(huge_size) & ~MAP_HUGETLB);
	fd = syscall(SYS_memfd_create, "repro", flags);
	if (fd < 0)
		skip("memfd_create: %s", strerror(errno));
	return fd;
}

/* No name is left behind, whatever becomes of the test. */
static int open_temporary(char *template)
{
	int fd = mkstemp(template);

	if (fd < 0)
		skip("create %s: %s", template, strerror(errno));
	unlink(template);
	return fd;
}

int temporary_file(void)
{
	char template[] = "/tmp/repro-XXXXXX";

	return open_temporary(template);
}

static int open_file(const struct memory *memory)
{
	char in_root[] = "/repro-XXXXXX";

	switch (memory->form) {
	case TMPFILE:
		return temporary_file();
	case PRIVATE_FILE:
		return open_temporary(in_root);
	default:
		return open_memfd(memory->size);
	}
}

static unsigned char *map_file(int fd, size_t size, int flags)
{
	void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (addr == MAP_FAILED && errno == ENOMEM)
		skip("mmap of %zu bytes of a file: %s", size, strerror(errno));
	if (addr == MAP_FAILED)
		bail_out("mmap of a file");
	return addr;
}

struct region create_file(const struct memory *memory)
{
	struct region region = {
		.memory = memory,
		.size = memory->size ? memory->size : base_page_size(),
		.original = BEFORE_FORK,
	};

	/* The second page is for the private copy. */
	if (memory->form == MEMFD_HUGETLB)
		require_free_hugetlb(region.size, 2);
	region.fd = open_file(memory);
	if (ftruncate(region.fd, region.size))
		bail_out("ftruncate");
	region.other = map_file(region.fd, region.size, MAP_SHARED);
	sample_fill(region.other, region.size, BEFORE_FORK);
	region.addr = map_file(region.fd, region.size, MAP_PRIVATE);
	region_read(&region);
	require_present(getpid(), &region);
	if (pagemap_frame(getpid(), region.addr) !=
	    pagemap_frame(getpid(), region.other))
		skip("the private mapping does not show the file's own page");
	return region;
}
