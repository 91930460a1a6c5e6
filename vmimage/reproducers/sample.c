/*
 * Where memory is written and compared.  The kernel shares, copies and reuses
 * whole pages, so two ends of a page tell as much as all of it; the first page
 * is used whole all the same, against a copy that is torn.  A PTE-mapped huge
 * page is decided on page by page, so none is left out of the first 2 MiB.
 * Beyond that there is only hugetlb memory of 1 GiB, which is one page to the
 * kernel: a few places stand for it, for a guest without KVM takes seconds to
 * touch it all.
 */
#include <string.h>

#include "repro.h"

#define ALL_PAGES_UNTIL ((size_t)2 << 20)
#define THEN_EVERY ((size_t)16 << 20)
#define END_OF_PAGE 8

void sample_visit(size_t size, void (*visit)(size_t offset, size_t length,
					     void *context), void *context)
{
	size_t page = base_page_size();
	size_t offset = page;

	visit(0, size < page ? size : page, context);
	while (offset + page <= size) {
		visit(offset, END_OF_PAGE, context);
		visit(offset + page - END_OF_PAGE, END_OF_PAGE, context);
		offset += offset < ALL_PAGES_UNTIL ? page : THEN_EVERY;
	}
}

struct filling {
	unsigned char *bytes;
	int byte;
};

static void fill(size_t offset, size_t length, void *context)
{
	const struct filling *filling = context;

	memset(filling->bytes + offset, filling->byte, length);
}

void sample_fill(unsigned char *bytes, size_t size, int byte)
{
	struct filling filling = { bytes, byte };

	sample_visit(size, fill, &filling);
}
