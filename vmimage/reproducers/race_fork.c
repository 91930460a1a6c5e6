/* fork() and exit against threads that fault and write. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "race.h"
#include "repro.h"

static pid_t fork_or_bail_out(void)
{
	pid_t pid = fork();

	if (pid < 0)
		bail_out("fork");
	return pid;
}

static void wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			bail_out("waitpid");
}

/* --- a thread reads back what it wrote -------------------------------------- */

#define PAGES 16

struct writer {
	unsigned char *pages;
	unsigned long number;
	unsigned long seen;	/* instead of the number, at the end */
};

static volatile unsigned long *word(const struct writer *writer, size_t page)
{
	return (void *)(writer->pages + page * base_page_size());
}

static bool write_and_read_back(void *context)
{
	struct writer *writer = context;

	writer->number++;
	for (size_t i = 0; i < PAGES; i++)
		*word(writer, i) = writer->number;
	for (size_t i = 0; i < PAGES; i++) {
		writer->seen = *word(writer, i);
		if (writer->seen != writer->number)
			return true;
	}
	/* Fresh pages now and then, for another kind of fault. */
	if (!(writer->number % 64))
		madvise(writer->pages, PAGES * base_page_size(), MADV_DONTNEED);
	return false;
}

static bool fork_and_wait(void *context)
{
	pid_t pid = fork_or_bail_out();

	(void)context;
	if (!pid)
		_exit(0);
	wait_for(pid);
	return false;
}

static void faults_during_fork(struct region *region,
			       const struct repro_case *self)
{
	struct race *race = race_start(self->race_seconds);
	struct writer writers[2] = { { .number = 0 } };

	(void)region;
	for (int i = 0; i < 2; i++) {
		writers[i].pages = map_alone(PAGES * base_page_size());
		race_add(race, write_and_read_back, &writers[i]);
	}
	if (race_run(race, fork_and_wait, NULL)) {
		for (int i = 0; i < 2; i++)
			if (writers[i].seen != writers[i].number)
				diagnostic("memory written during fork(): expected %lu, saw %lu: the process lost its own write: corruption",
					   writers[i].number, writers[i].seen);
		fail();
	}
	pass();
}

/* --- a child that unmaps while the parent writes ----------------------------- */

static bool write_while_child_unmaps(void *context)
{
	struct region *region = context;
	pid_t pid;

	/* A fresh huge page every time, for a copy is of small ones. */
	if (madvise(region->addr, region->size, MADV_DONTNEED))
		bail_out("madvise MADV_DONTNEED");
	region->addr[0] = BEFORE_FORK;
	pid = fork_or_bail_out();
	if (!pid) {
		munmap(region->addr, region->size);
		_exit(0);
	}
	for (size_t i = 0; i < region->size; i += base_page_size())
		region->addr[i] = AFTER_FORK;
	wait_for(pid);
	return region->addr[0] != AFTER_FORK;
}

static bool count_complaints(void *context)
{
	const unsigned int *before = context;

	usleep(10000);
	return kernel_complaints() & ~*before;
}

static void unmap_during_write(struct region *region,
			       const struct repro_case *self)
{
	unsigned int complaints = kernel_complaints();
	struct race *race = race_start(self->race_seconds);

	race_add(race, count_complaints, &complaints);
	if (race_run(race, write_while_child_unmaps, region)) {
		expect_no_complaint(complaints,
				    "writes to a huge page while the child unmaps it");
		diagnostic("memory written while the child unmaps it: expected 0x%02x, saw 0x%02x: the process lost its own write: corruption",
			   AFTER_FORK, region->addr[0]);
		fail();
	}
	pass();
}

const struct repro_case race_fork_cases[] = {
	{
		.name = "race-fork-faults",
		.description = "threads that fault and write while another forks read back what they wrote",
		.class = "race",
		.source = "bugzilla 217624; bad since 0bff0aaea03e (6.4), fixed by fb49c455323f (6.5)",
		.forms = FORM_BIT(BASE),
		.needs = { "smp" },
		.race_seconds = 5,
		.run = faults_during_fork,
	},
	{
		.name = "race-fork-unmap",
		.description = "a parent may write to a huge page while its child unmaps it, and the kernel does not complain",
		.class = "race",
		.source = "syzbot 5e8feb543ca8e12e0ede; bad since 1da190f4d0a6 (6.15), seen with DEBUG_VM",
		.forms = FORM_BIT(THP_PMD),
		.needs = { "smp" },
		.race_seconds = 5,
		.run = unmap_during_write,
	},
	{ .name = NULL }
};
