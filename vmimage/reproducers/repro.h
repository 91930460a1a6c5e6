/*
 * What the reproducers share.  A test is one case on one kind of memory; one
 * process runs one test and ends by stating a verdict (verdict.c).
 */
#ifndef REPRO_H
#define REPRO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Cases write BEFORE_FORK into fresh memory and AFTER_FORK later on, so that
 * one byte of a copy tells which of the two writes it is from.
 */
#define BEFORE_FORK 0x11
#define AFTER_FORK 0x5a

/* A test that takes this long hangs: whoever runs it kills it then (--list). */
#define TIMEOUT_SECONDS 60

/* --- memory.c: the kinds of memory --------------------------------------- */

/* How the memory is backed and mapped; a kind is a form of a size. */
enum form {
	BASE,		/* one resident base page */
	SWAP,		/* one base page, swapped out before the case starts */
	THP_PMD,	/* one transparent huge page mapped by a PMD */
	THP_PMD_SWAP,	/* the same, swapped out */
	THP_PTE,	/* one transparent huge page mapped by PTEs */
	THP_PTE_SWAP,	/* the same, swapped out */
	THP_SINGLE,	/* one PTE that maps what is left of a huge page */
	THP_SINGLE_SWAP,	/* the same, swapped out */
	THP_MREMAP,	/* the lower half; the upper one is mapped elsewhere */
	THP_SHARED,	/* only its first page was ever shared with a child */
	HUGETLB,
	/* Private mappings of what is not anonymous memory: */
	ZEROPAGE,
	HUGE_ZEROPAGE,
	MEMFD,
	TMPFILE,	/* a file without a name in /tmp */
	PRIVATE_FILE,	/* a file with a name in the root directory */
	MEMFD_HUGETLB,
	KSM,		/* one page that samepage merging made of two */
	SECRETMEM,	/* no kernel mapping; shared, for there is no other */
	FORMS
};

#define FORM_BIT(form) (1u << (form))
#define SWAP_FORMS (FORM_BIT(SWAP) | FORM_BIT(THP_PMD_SWAP) | \
		    FORM_BIT(THP_PTE_SWAP) | FORM_BIT(THP_SINGLE_SWAP))
#define PMD_FORMS (FORM_BIT(THP_PMD) | FORM_BIT(THP_PMD_SWAP))
#define ANON_FORMS (FORM_BIT(HUGETLB + 1) - 1)
#define FILE_FORMS (FORM_BIT(MEMFD) | FORM_BIT(TMPFILE) | \
		    FORM_BIT(PRIVATE_FILE) | FORM_BIT(MEMFD_HUGETLB))
/* What is shared without fork(): struct region has the other mapping. */
#define NON_ANON_FORMS \
	(FORM_BIT(ZEROPAGE) | FORM_BIT(HUGE_ZEROPAGE) | FILE_FORMS | \
	 FORM_BIT(KSM))

struct memory {
	const char *name;
	enum form form;
	size_t size;	/* of the huge page; 0 is that of a PMD, or a base page */
};

/* Ends with an entry that has no name. */
extern const struct memory memories[];

/* Prints the guest features the memory needs as JSON strings. */
bool memory_print_needs(const struct memory *memory);

/* --- region.c: the memory under test ------------------------------------ */

struct region {
	const struct memory *memory;
	unsigned char *addr;
	size_t size;
	/* What is in it at first: BEFORE_FORK, or 0 for a zeropage. */
	int original;
	/*
	 * Of memory that is not anonymous: another mapping of the same.  It is
	 * shared and writable if it is of a file.
	 */
	unsigned char *other;
	int fd;	/* the file, if it is of one */
};

/* Returns memory with its original content, proven to be of that kind; or skips. */
struct region region_create(const struct memory *memory);
void region_fill(const struct region *region, int byte);
/* Reads every page: maps it without asking for write access. */
void region_read(const struct region *region);
/* Read-only and writable again: the kernel may redo write permissions. */
void region_toggle_write_protection(const struct region *region);
void region_unmap(const struct region *region);
bool region_in(const struct region *region, unsigned int forms);
/* Swaps it out, or skips. */
void region_swap_out(const struct region *region);
/* fails unless the memory is full of `byte`; see expect_bytes() */
void expect_region(const struct region *region, int byte, int instead,
		   const char *where, const char *otherwise);

/*
 * Maps `size` bytes with that alignment as a VMA of their own: inaccessible
 * neighbours keep the kernel from merging it with other memory.
 */
unsigned char *map_alone(size_t size);
size_t base_page_size(void);

/* The makers of the kinds: anonymous, huge and other memory. */
struct region create_base(const struct memory *memory);		/* region.c */
struct region create_thp(const struct memory *memory);		/* thp.c */
struct region create_hugetlb(const struct memory *memory);	/* hugetlb.c */
struct region create_zeropage(const struct memory *memory);	/* zeropage.c */
struct region create_file(const struct memory *memory);		/* file.c */

/* Skips unless that many huge pages of the pool are free. */
void require_free_hugetlb(size_t size, unsigned int count);	/* hugetlb.c */
int hugetlb_map_flags(size_t size);
/* Empty, in /tmp; nobody else can open it. */
int temporary_file(void);					/* file.c */
/* Of a PMD, or 0 where there are no transparent huge pages. */
size_t pmd_size(void);						/* thp.c */
/* A huge page, which stays one. */
void send_khugepaged_to_sleep(void);				/* thp.c */
void map_by_ptes(const struct region *region);			/* thp.c */

struct region create_ksm(const struct memory *memory);		/* ksm.c */
struct region create_secretmem(const struct memory *memory);	/* secretmem.c */

/* --- sample.c: where memory is written and compared ----------------------- */

/* Calls visit() for each piece of the first `size` bytes that is looked at. */
void sample_visit(size_t size, void (*visit)(size_t offset, size_t length,
					     void *context), void *context);
void sample_fill(unsigned char *bytes, size_t size, int byte);

/* --- kernel_file.c: small files of the kernel ------------------------------ */

bool read_line(const char *path, char *line, int size);
/* -1 if there is none */
long long read_number(const char *path);
bool write_line(const char *path, const char *text);
/* For requests to the kernel that are welcome but not needed. */
void try_write(const char *path, const char *text);

/* --- pagemap.c: what the kernel says about it ---------------------------- */

bool pagemap_swapped(const struct region *region);
bool pagemap_all_soft_dirty(const struct region *region);
bool pagemap_any_soft_dirty(const struct region *region);
bool pagemap_uffd_wp(pid_t pid, const struct region *region);
bool pagemap_pmd_mapped(pid_t pid, const struct region *region);
/* The first page's frame; 0 if it is not present. */
uint64_t pagemap_frame(pid_t pid, const void *addr);
/* True if all pages, or any of them, are at the same place in both processes. */
bool pagemap_shared_with(pid_t child, const struct region *region);
bool pagemap_any_shared_with(pid_t child, const struct region *region);
/* The region is one compound page, or the part of one that begins it. */
bool pagemap_one_folio(const struct region *region, size_t folio_size);
bool pagemap_has_kpageflag(const void *addr, unsigned int bit);
#define KPAGEFLAG_HUGE 17
#define KPAGEFLAG_KSM 21
#define KPAGEFLAG_ZERO_PAGE 24

/* These skip the test if what they require does not hold. */
void require_present(pid_t pid, const struct region *region);
void require_shared_with(pid_t child, const struct region *region);
void require_last_owner(const struct region *region);
/* Skips where the kernel has no soft-dirty bits. */
void clear_soft_dirty(void);
/* Makes it read-only in the page table and writable for the process. */
void map_read_only(const struct region *region);

/* --- taint.c: what the kernel complained about ----------------------------- */

/* Warnings, oopses and bad pages so far */
unsigned int kernel_complaints(void);
/* Fails if there are others now. */
void expect_no_complaint(unsigned int before, const char *after_what);

/* --- peer.c: two processes that take turns ------------------------------- */

struct peer;
typedef void child_main(struct peer *parent, const struct region *region);

/* Forks; the child waits for its first turn. */
struct peer *peer_fork(child_main *child, const struct region *region);
pid_t peer_pid(const struct peer *peer);
/* Lets the other process run and returns when it passes the turn back. */
void peer_pass_turn(struct peer *peer);
/* Gives the child its last turn and returns when it has exited happily. */
void peer_finish(struct peer *child);
/* For a child that has nothing to do but to be there, until peer_finish(). */
void peer_idle(struct peer *parent, const struct region *region);
/* For one that is there and fails unless its memory is as of fork() then. */
void peer_keeps_copy(struct peer *parent, const struct region *region);
/* Forks a child that exits at once: the memory was shared and is ours again. */
void outlive_child(const struct region *region);

/* --- spliced.c: a reference to pages, held by a pipe ---------------------- */

struct spliced {
	int fd;
	size_t size;	/* may be less than the region: a pipe has few slots */
	int original;
};

struct spliced splice_region(const struct region *region);
/* The bytes there are now; the caller frees them. */
unsigned char *read_spliced(struct spliced spliced);
#define HUGETLB_REUSED \
	"hugetlb pages are reused if mapped once, whoever refers to them"
/* expect_bytes() of them; AFTER_FORK is what else may be there. */
void expect_spliced(struct spliced spliced, const char *where,
		    const char *otherwise);
/* Likewise, but a hugetlb page is known to be reused whoever refers to it. */
void expect_spliced_unless_hugetlb(const struct region *region,
				   struct spliced spliced, const char *where,
				   const char *otherwise);

/* --- verdict.c: KTAP ----------------------------------------------------- */

enum exit_code {
	EXIT_PASS = 0,
	EXIT_FAIL = 1,
	EXIT_USAGE = 2,
	EXIT_BAIL_OUT = 3,	/* could not find out */
	EXIT_SKIP = 4,
	EXIT_NO_VERDICT = 5,	/* of a part of a test; never of repro itself */
};

#define PRINTF_LIKE __attribute__((format(printf, 1, 2)))

/* Before anything else here, and before a child is forked. */
void verdict_init(void);
/* Starts a document of that many tests, unless another process did. */
void ktap_start(unsigned int tests);
/*
 * The verdict that follows is of this test.  Only the first one of a test is
 * printed, whichever of its processes states it.
 */
void ktap_test(unsigned int number, const char *name);
/* Says so if the test had no verdict so far; safe in a signal handler. */
void ktap_error(const char *reason);

void diagnostic(const char *format, ...) PRINTF_LIKE;
/*
 * Each of these ends the process.  Parent and child may both use them: a
 * parent whose child ended with a verdict adopts it (peer.c).
 */
_Noreturn void pass(void);
/* A pass will then say that it is an unexpected one. */
void known_to_fail(const char *why);
_Noreturn void fail(void);
_Noreturn void skip(const char *format, ...) PRINTF_LIKE;
_Noreturn void expected_failure(const char *format, ...) PRINTF_LIKE;
/* Appends errno, unless that is 0. */
_Noreturn void bail_out(const char *format, ...) PRINTF_LIKE;

/*
 * Fails unless all samples equal `byte`; `otherwise` says what it means if
 * they are `instead`.
 */
void expect_bytes(const unsigned char *bytes, size_t size, int byte,
		  int instead, const char *where, const char *otherwise);
bool all_bytes(const unsigned char *bytes, size_t size, int byte);

/* --- the cases ----------------------------------------------------------- */

struct pin_user;	/* pin.h */

struct repro_case {
	const char *name;	/* without the kind of memory */
	const char *description;
	const char *class;	/* missed-cow, wrong-cow, policy or race */
	const char *source;
	unsigned int forms;	/* FORM_BIT()s */
	bool pmd_size_only;	/* of the huge pages those of a PMD's size */
	const char *needs[4];	/* guest features besides those of the memory */
	/* Why it fails on every kernel, by expected_failure(), on these forms. */
	const char *known;
	unsigned int known_forms;
	const struct pin_user *pin;
	unsigned int race_seconds;	/* racy: tries for that long at most */
	void (*run)(struct region *region, const struct repro_case *self);
};

/* Each ends with an entry that has no name. */
extern const struct repro_case fork_basic_cases[];
extern const struct repro_case vmsplice_cases[];
extern const struct repro_case longterm_pin_cases[];
extern const struct repro_case fixed_buffer_cases[];
extern const struct repro_case collapse_cases[];
extern const struct repro_case private_mapping_cases[];
extern const struct repro_case process_vm_cases[];
extern const struct repro_case proc_mem_cases[];
extern const struct repro_case secretmem_cases[];
extern const struct repro_case short_pin_cases[];
extern const struct repro_case direct_io_cases[];
extern const struct repro_case uffd_wp_cases[];
extern const struct repro_case dirty_pipe_cases[];
extern const struct repro_case fork_snapshot_cases[];
extern const struct repro_case file_pin_cases[];
extern const struct repro_case hugetlb_pool_cases[];
extern const struct repro_case race_force_write_cases[];
extern const struct repro_case race_fork_cases[];
extern const struct repro_case race_uffd_wp_cases[];
extern const struct repro_case race_reclaim_cases[];

#endif
