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

/* The host kills the guest's test after this long; ours (main.c) is shorter. */
#define TIMEOUT_SECONDS 60

/* --- region.c: the memory under test ------------------------------------ */

enum memory {
	BASE,		/* one resident base page */
	THP_PMD,	/* one transparent huge page mapped by a PMD */
	SWAP,		/* one base page, swapped out before the case starts */
	MEMORY_KINDS
};

extern const char *const memory_names[MEMORY_KINDS];

struct region {
	enum memory memory;
	unsigned char *addr;
	size_t size;
};

/* Returns memory full of BEFORE_FORK, proven to be of that kind; or skips. */
struct region region_create(enum memory memory);
void region_fill(const struct region *region, int byte);
/* Reads every page: maps it without asking for write access. */
void region_read(const struct region *region);
/* Read-only and writable again: the kernel may redo write permissions. */
void region_toggle_write_protection(const struct region *region);
void region_unmap(const struct region *region);

/* --- pagemap.c: what the kernel says about it ---------------------------- */

bool pagemap_swapped(const struct region *region);
bool pagemap_pmd_mapped(pid_t pid, const struct region *region);
/* These three skip the test if what they require does not hold. */
void require_present(pid_t pid, const struct region *region);
void require_shared_with(pid_t child, const struct region *region);
void require_last_owner(const struct region *region);

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
/* Forks a child that exits at once: the memory was shared and is ours again. */
void outlive_child(const struct region *region);

/* --- spliced.c: a reference to pages, held by a pipe ---------------------- */

struct spliced {
	int fd;
	size_t size;	/* may be less than the region: a pipe has few slots */
};

struct spliced splice_region(const struct region *region);
/* The bytes there are now; the caller frees them. */
unsigned char *read_spliced(struct spliced spliced);
/* expect_bytes() of them */
void expect_spliced(struct spliced spliced, int byte, const char *where,
		    const char *otherwise);

/* --- verdict.c: KTAP ----------------------------------------------------- */

enum exit_code {
	EXIT_PASS = 0,
	EXIT_FAIL = 1,
	EXIT_USAGE = 2,
	EXIT_BAIL_OUT = 3,	/* could not find out */
	EXIT_SKIP = 4,
};

#define PRINTF_LIKE __attribute__((format(printf, 1, 2)))

void ktap_start(const char *test_name);
void diagnostic(const char *format, ...) PRINTF_LIKE;
/*
 * Each of these ends the process.  Parent and child may both use them: a
 * parent whose child ended with a verdict adopts it (peer.c).
 */
_Noreturn void pass(void);
_Noreturn void fail(void);
_Noreturn void skip(const char *format, ...) PRINTF_LIKE;
_Noreturn void expected_failure(const char *format, ...) PRINTF_LIKE;
/* Appends errno, unless that is 0. */
_Noreturn void bail_out(const char *format, ...) PRINTF_LIKE;

/*
 * Fails unless all bytes equal `byte`, one of the two the cases write;
 * `otherwise` says what it means if they are the other one.
 */
void expect_bytes(const unsigned char *bytes, size_t size, int byte,
		  const char *where, const char *otherwise);

/* --- the cases ----------------------------------------------------------- */

#define MEMORY_BIT(memory) (1u << (memory))
#define ANY_MEMORY (MEMORY_BIT(BASE) | MEMORY_BIT(THP_PMD) | MEMORY_BIT(SWAP))

struct repro_case {
	const char *name;	/* without the kind of memory */
	const char *description;
	const char *class;	/* missed-cow, wrong-cow or policy */
	const char *source;
	unsigned int memories;	/* MEMORY_BIT()s */
	bool pins_longterm;	/* needs gup_test */
	void (*run)(struct region *region);
};

/* Each ends with an entry that has no name. */
extern const struct repro_case fork_basic_cases[];
extern const struct repro_case vmsplice_cases[];
extern const struct repro_case longterm_pin_cases[];

#endif
