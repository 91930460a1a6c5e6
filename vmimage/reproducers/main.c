/*
 * repro --list   the tests, as JSON
 * repro NAME     runs one of them and prints KTAP
 *
 * The exit codes are those of enum exit_code.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "repro.h"

static const struct repro_case *const groups[] = {
	fork_basic_cases,
	vmsplice_cases,
	longterm_pin_cases,
};

#define GROUPS (sizeof(groups) / sizeof(groups[0]))

/* Stops at the first test for which visit() is true and returns true. */
static bool visit_tests(bool (*visit)(const struct repro_case *, enum memory,
				      const char *name, void *context),
			void *context)
{
	char name[128];

	for (size_t i = 0; i < GROUPS; i++)
		for (const struct repro_case *c = groups[i]; c->name; c++)
			for (enum memory m = 0; m < MEMORY_KINDS; m++) {
				if (!(c->memories & MEMORY_BIT(m)))
					continue;
				snprintf(name, sizeof(name), "cow/%s/%s",
					 c->name, memory_names[m]);
				if (visit(c, m, name, context))
					return true;
			}
	return false;
}

/* Our strings hold nothing that JSON would want escaped. */
static bool print_test(const struct repro_case *c, enum memory memory,
		       const char *name, void *context)
{
	const char **separator = context;
	const char *comma = "";

	printf("%s\n  {\"name\": \"%s\", \"description\": \"%s\",\n"
	       "   \"class\": \"%s\", \"source\": \"%s\",\n   \"needs\": [",
	       *separator, name, c->description, c->class, c->source);
	*separator = ",";
	if (memory == THP_PMD) {
		printf("\"thp\"");
		comma = ", ";
	}
	if (memory == SWAP) {
		printf("\"swap\"");
		comma = ", ";
	}
	if (c->pins_longterm)
		printf("%s\"gup_test_longterm\"", comma);
	printf("], \"timeout_seconds\": %d}", TIMEOUT_SECONDS);
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

static void time_is_up(int signal)
{
	static const char message[] = "Bail out! the test took too long\n";

	(void)signal;
	if (write(STDOUT_FILENO, message, sizeof(message) - 1) < 0) {
		/* The exit code says it as well. */
	}
	_exit(EXIT_BAIL_OUT);
}

static bool run_if_named(const struct repro_case *c, enum memory memory,
			 const char *name, void *wanted)
{
	struct region region;

	if (strcmp(name, wanted))
		return false;

	ktap_start(name);
	/* The child, if any, dies with this process: peer.c. */
	signal(SIGALRM, time_is_up);
	alarm(TIMEOUT_SECONDS - 5);
	region = region_create(memory);
	c->run(&region);
	return true;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 2) {
		fprintf(stderr, "usage: repro --list | repro TEST\n");
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--list"))
		return list_tests();
	if (!visit_tests(run_if_named, argv[1])) {
		fprintf(stderr, "repro: no test named %s\n", argv[1]);
		return EXIT_USAGE;
	}
	return EXIT_BAIL_OUT;	/* a case returned without a verdict */
}
