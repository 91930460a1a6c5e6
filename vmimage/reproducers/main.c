/*
 * repro --list     the tests, as JSON
 * repro TEST       runs it and prints KTAP
 * repro TEST...    runs them one after another, each in a process of its own
 * repro --wait     the same, with the names of the tests from standard input,
 *                  each ended by a NUL; writes a NUL when it begins to wait
 *
 * The exit codes are those of enum exit_code; several tests are 1 if any of
 * them failed, else 3 if any could not find out, else 0.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "repro.h"

static const struct repro_case *const groups[] = {
	fork_basic_cases,
	vmsplice_cases,
	longterm_pin_cases,
	fixed_buffer_cases,
	collapse_cases,
	private_mapping_cases,
	process_vm_cases,
	proc_mem_cases,
	secretmem_cases,
	short_pin_cases,
	direct_io_cases,
	uffd_wp_cases,
	dirty_pipe_cases,
	fork_snapshot_cases,
	file_pin_cases,
	hugetlb_pool_cases,
	race_force_write_cases,
	race_fork_cases,
	race_uffd_wp_cases,
	race_reclaim_cases,
};

#define GROUPS (sizeof(groups) / sizeof(groups[0]))

struct test {
	char name[96];
	const struct repro_case *the_case;
	const struct memory *memory;
};

static bool applies(const struct repro_case *c, const struct memory *m)
{
	return (c->forms & FORM_BIT(m->form)) &&
	       !(c->pmd_size_only && m->size && m->form <= THP_SHARED);
}

/* Stops at the first test for which visit() is true and returns true. */
static bool visit_tests(bool (*visit)(const struct test *test, void *context),
			void *context)
{
	struct test test;

	for (size_t i = 0; i < GROUPS; i++)
		for (const struct repro_case *c = groups[i]; c->name; c++)
			for (const struct memory *m = memories; m->name; m++) {
				if (!applies(c, m))
					continue;
				test.the_case = c;
				test.memory = m;
				snprintf(test.name, sizeof(test.name),
					 "cow/%s/%s", c->name, m->name);
				if (visit(&test, context))
					return true;
			}
	return false;
}

/* A race may need all the time it has, and then some to clean up. */
static unsigned int time_limit(const struct repro_case *c)
{
	return c->race_seconds ? c->race_seconds + TIMEOUT_SECONDS / 2
			       : TIMEOUT_SECONDS;
}

/* Our strings hold nothing that JSON would want escaped. */
static bool print_test(const struct test *test, void *context)
{
	const struct repro_case *c = test->the_case;
	const char **separator = context;
	bool any;

	printf("%s\n  {\"name\": \"%s\", \"description\": \"%s\",\n"
	       "   \"class\": \"%s\", \"source\": \"%s\",\n   \"needs\": [",
	       *separator, test->name, c->description, c->class, c->source);
	*separator = ",";
	any = memory_print_needs(test->memory);
	for (size_t i = 0; i < sizeof(c->needs) / sizeof(c->needs[0]); i++)
		if (c->needs[i]) {
			printf("%s\"%s\"", any ? ", " : "", c->needs[i]);
			any = true;
		}
	printf("], %s\"timeout_seconds\": %u}",
	       c->race_seconds ? "\"racy\": true, " : "", time_limit(c));
	return false;
}

static int list_tests(void)
{
	const char *separator = "";

	printf("[");
	visit_tests(print_test, &separator);
	printf("\n]\n");
	return fflush(stdout) ? EXIT_BAIL_OUT : EXIT_PASS;
}

/*
 * Compares before it composes a name: this is part of every run, and all names
 * together take 4 ms under emulation.
 */
static bool find_test(const char *name, struct test *test)
{
	const char *memory = strrchr(name, '/');
	size_t length;

	if (strncmp(name, "cow/", 4) || memory < name + 4)
		return false;
	length = memory - (name + 4);
	for (size_t i = 0; i < GROUPS; i++)
		for (const struct repro_case *c = groups[i]; c->name; c++) {
			if (strncmp(c->name, name + 4, length) ||
			    c->name[length])
				continue;
			for (const struct memory *m = memories; m->name; m++) {
				if (strcmp(m->name, memory + 1) ||
				    !applies(c, m))
					continue;
				test->the_case = c;
				test->memory = m;
				snprintf(test->name, sizeof(test->name), "%s",
					 name);
				return true;
			}
		}
	return false;
}

static void time_is_up(int signal)
{
	(void)signal;
	ktap_error("the test took too long");
	_exit(EXIT_BAIL_OUT);
}

/* 0 seconds are no limit. */
static _Noreturn void run(const struct test *test, unsigned int seconds)
{
	struct region region;

	/* The child, if any, dies with this process: peer.c. */
	if (seconds) {
		signal(SIGALRM, time_is_up);
		alarm(seconds);
	}
	if (test->the_case->known &&
	    test->the_case->known_forms & FORM_BIT(test->memory->form))
		known_to_fail(test->the_case->known);
	region = region_create(test->memory);
	test->the_case->run(&region, test->the_case);
	errno = 0;
	bail_out("the case returned without a verdict");
}

/*
 * Starts the test in a process that shares no page with this one, not even
 * copy-on-write: a kernel that gets fork() wrong must not get at the runner.
 */
static pid_t start_apart(const char *name, unsigned int number)
{
	char number_text[16], self_text[16];
	char *const args[] = { "repro", "--as", number_text, self_text,
			       (char *)name, NULL };
	pid_t pid;

	snprintf(number_text, sizeof(number_text), "%u", number);
	snprintf(self_text, sizeof(self_text), "%d", getpid());
	pid = vfork();
	if (!pid) {
		execv("/proc/self/exe", args);
		_exit(EXIT_NO_VERDICT);
	}
	return pid;
}

/*
 * Of many tests one that hangs must not cost a minute: on a broken kernel there
 * may be more of them.  Milliseconds are usual, but for pages of 1 GiB, which
 * an emulated CPU takes seconds to clear.
 */
#define ONE_OF_MANY_SECONDS 20

static unsigned int patience(const struct test *test)
{
	if (test->the_case->race_seconds || test->memory->size >> 30)
		return time_limit(test->the_case) - 5;
	return ONE_OF_MANY_SECONDS;
}

static pid_t apart;	/* the test that runs now */

/* It does not end by itself: it loops where only SIGKILL gets it out. */
static void kill_apart(int signal)
{
	(void)signal;
	kill(-apart, SIGKILL);
	kill(apart, SIGKILL);
}

/* Returns its exit code; it has then left nothing behind. */
static int run_apart(const struct test *test, unsigned int number)
{
	char reason[64];
	int status = 0;
	pid_t pid;

	ktap_test(number, test->name);
	fflush(stdout);
	pid = start_apart(test->name, number);
	if (pid < 0)
		bail_out("vfork");
	apart = pid;
	signal(SIGALRM, kill_apart);
	alarm(patience(test) + 5);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			bail_out("waitpid");
	alarm(0);
	/*
	 * What it forked dies with it (peer.c), unless it is too broken to have
	 * asked for that.  It is ours then, as the subreaper.
	 */
	kill(-pid, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		continue;

	if (WIFSIGNALED(status)) {
		snprintf(reason, sizeof(reason), "killed by signal %d",
			 WTERMSIG(status));
		ktap_error(reason);
		return EXIT_BAIL_OUT;
	}
	switch (WEXITSTATUS(status)) {
	case EXIT_PASS:
	case EXIT_FAIL:
	case EXIT_BAIL_OUT:
	case EXIT_SKIP:
		return WEXITSTATUS(status);
	}
	snprintf(reason, sizeof(reason), "exited with %d and no verdict",
		 WEXITSTATUS(status));
	ktap_error(reason);
	return EXIT_BAIL_OUT;
}

/* What start_apart() started */
static int run_as(const struct test *test, const char *number,
		  const char *runner)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != atoi(runner))
		return EXIT_NO_VERDICT;
	/* A group, to be killed as one; itself it dies with the runner. */
	if (setpgid(0, 0))
		return EXIT_NO_VERDICT;
	ktap_test(atoi(number), test->name);
	run(test, patience(test));
}

static int run_all(const struct test *tests, unsigned int count)
{
	int worst = EXIT_PASS;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		bail_out("prctl PR_SET_CHILD_SUBREAPER");
	for (unsigned int i = 0; i < count; i++) {
		int code = run_apart(&tests[i], i + 1);

		if (code == EXIT_FAIL)
			worst = EXIT_FAIL;
		else if (code == EXIT_BAIL_OUT && worst != EXIT_FAIL)
			worst = EXIT_BAIL_OUT;
	}
	return worst;
}

/*
 * Returns the names from standard input and how many there are; waits for its
 * end.  A guest forked while this process waits here has its start behind it:
 * loading a program is most of what a short test costs, and waiting until
 * khugepaged sleeps as much as the rest of one with huge pages.
 */
static char **await_names(unsigned int *count)
{
	static char text[1 << 17], *names[1 << 11];
	size_t length = 0;
	ssize_t got;

	send_khugepaged_to_sleep();
	/* Says that it waits now. */
	if (write(STDOUT_FILENO, "", 1) != 1)
		bail_out("write");
	while ((got = read(STDIN_FILENO, text + length,
			   sizeof(text) - 1 - length)) > 0)
		length += got;
	if (got < 0)
		bail_out("read the names of tests");
	*count = 0;
	for (size_t at = 0; at < length; at += strlen(text + at) + 1) {
		if (*count == sizeof(names) / sizeof(names[0]))
			return NULL;
		names[(*count)++] = text + at;
	}
	return *count ? names : NULL;
}

int main(int argc, char **argv)
{
	unsigned int count = argc - 1;
	char **names = argv + 1;
	struct test *tests;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && !strcmp(argv[1], "--list"))
		return list_tests();

	verdict_init();
	if (argc == 5 && !strcmp(argv[1], "--as")) {
		struct test test;

		if (!find_test(argv[4], &test))
			return EXIT_USAGE;
		return run_as(&test, argv[2], argv[3]);
	}
	if (argc == 2 && !strcmp(argv[1], "--wait"))
		names = await_names(&count);
	if (!names || !count) {
		fprintf(stderr, "usage: repro --list | repro --wait | repro TEST...\n");
		return EXIT_USAGE;
	}
	tests = calloc(count, sizeof(*tests));
	if (!tests)
		return EXIT_BAIL_OUT;
	for (unsigned int i = 0; i < count; i++)
		if (!find_test(names[i], &tests[i])) {
			fprintf(stderr, "repro: no test named %s\n", names[i]);
			return EXIT_USAGE;
		}
	ktap_start(count);
	if (count > 1)
		return run_all(tests, count);
	ktap_test(1, tests[0].name);
	/*
	 * A fault that is never resolved is what a broken kernel does: whoever
	 * asked for one test sees it hang, it does not call itself an error.
	 */
	run(&tests[0], 0);
}
