/*
 * The kinds of memory.  A name never changes: results are kept by it.
 */
#include <stdio.h>

#include "repro.h"

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* A huge page smaller than a PMD can only be mapped by PTEs. */
#define THP_FORMS(prefix, size) \
	{ prefix "-pte", THP_PTE, size }, \
	{ prefix "-pte-swap", THP_PTE_SWAP, size }, \
	{ prefix "-single", THP_SINGLE, size }, \
	{ prefix "-single-swap", THP_SINGLE_SWAP, size }, \
	{ prefix "-mremap", THP_MREMAP, size }, \
	{ prefix "-shared", THP_SHARED, size }

const struct memory memories[] = {
	{ "base", BASE, 0 },
	{ "thp-pmd", THP_PMD, 0 },
	{ "swap", SWAP, 0 },
	{ "thp-pmd-swap", THP_PMD_SWAP, 0 },
	THP_FORMS("thp", 0),
	THP_FORMS("mthp-16k", 16 * KIB),
	THP_FORMS("mthp-32k", 32 * KIB),
	THP_FORMS("mthp-64k", 64 * KIB),
	THP_FORMS("mthp-128k", 128 * KIB),
	THP_FORMS("mthp-256k", 256 * KIB),
	THP_FORMS("mthp-512k", 512 * KIB),
	THP_FORMS("mthp-1m", 1 * MIB),
	{ "hugetlb-2m", HUGETLB, 2 * MIB },
	{ "hugetlb-1g", HUGETLB, 1 * GIB },
	{ "zeropage", ZEROPAGE, 0 },
	{ "huge-zeropage", HUGE_ZEROPAGE, 0 },
	{ "memfd", MEMFD, 0 },
	{ "tmpfile", TMPFILE, 0 },
	{ "private-file", PRIVATE_FILE, 0 },
	{ "memfd-hugetlb-2m", MEMFD_HUGETLB, 2 * MIB },
	{ "memfd-hugetlb-1g", MEMFD_HUGETLB, 1 * GIB },
	{ "ksm", KSM, 0 },
	{ "secretmem", SECRETMEM, 0 },
	{ .name = NULL }
};

bool memory_print_needs(const struct memory *memory)
{
	unsigned int form = FORM_BIT(memory->form);
	bool any = true;

	if (form & (FORM_BIT(HUGETLB) | FORM_BIT(MEMFD_HUGETLB)))
		printf("\"hugetlb:%zu\"", memory->size);
	else if (form & FORM_BIT(HUGE_ZEROPAGE))
		printf("\"thp\", \"huge_zeropage\"");
	else if (memory->size)
		printf("\"mthp:%zu\"", memory->size);
	else if (memory->form >= THP_PMD && memory->form <= THP_SHARED)
		printf("\"thp\"");
	else if (form & FORM_BIT(KSM))
		printf("\"ksm\"");
	else if (form & FORM_BIT(SECRETMEM))
		printf("\"secretmem\"");
	else
		any = false;
	if (form & SWAP_FORMS) {
		printf("%s\"swap\"", any ? ", " : "");
		any = true;
	}
	return any;
}
