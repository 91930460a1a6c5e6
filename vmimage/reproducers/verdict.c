#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "repro.h"

static unsigned int tests;
static unsigned int test_number;
static const char *test_name;
static const char *known;	/* why it fails, if it does everywhere */

/*
 * A test may consist of several processes, and one of them states the verdict:
 * the one that gets the byte that waits in this pipe.
 */
static int verdict_pipe[2] = { -1, -1 };

static bool take_verdict(void)
{
	char byte;

	return read(verdict_pipe[0], &byte, 1) == 1;
}

void verdict_init(void)
{
	if (pipe2(verdict_pipe, O_CLOEXEC | O_NONBLOCK))
		bail_out("pipe2");
}

void ktap_start(unsigned int count)
{
	tests = count;
	printf("KTAP version 1\n1..%u\n", tests);
	/* Or a child would print it once more. */
	fflush(stdout);
}

void ktap_test(unsigned int number, const char *name)
{
	/* That of the test before may have come from a process of its own. */
	if (number > 1)
		take_verdict();
	if (write(verdict_pipe[1], "", 1) != 1)
		bail_out("write to a pipe");
	test_number = number;
	test_name = name;
}

/*
 * A test on its own ends the whole document if it cannot find out; one of
 * several must leave the others their lines.
 */
void ktap_error(const char *reason)
{
	char line[256];
	int length;

	if (!take_verdict())
		return;
	if (tests == 1)
		length = snprintf(line, sizeof(line), "Bail out! %s\n", reason);
	else
		length = snprintf(line, sizeof(line), "not ok %u %s # ERROR %s\n",
				  test_number, test_name, reason);
	if (write(STDOUT_FILENO, line, length) < 0) {
		/* The exit code says it as well. */
	}
}

/* A verdict nobody received is not one. */
static _Noreturn void finish(enum exit_code code)
{
	if (fflush(stdout) || ferror(stdout))
		code = EXIT_BAIL_OUT;
	_exit(code);
}

/* Ends the process silently if the test has its verdict already. */
static void begin_verdict(enum exit_code code)
{
	if (!take_verdict())
		finish(code);
}

void diagnostic(const char *format, ...)
{
	va_list args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

void known_to_fail(const char *why)
{
	known = why;
}

void pass(void)
{
	begin_verdict(EXIT_PASS);
	if (known)
		printf("ok %u %s # XPASS %s\n", test_number, test_name, known);
	else
		printf("ok %u %s\n", test_number, test_name);
	finish(EXIT_PASS);
}

void fail(void)
{
	begin_verdict(EXIT_FAIL);
	printf("not ok %u %s\n", test_number, test_name);
	finish(EXIT_FAIL);
}

void skip(const char *format, ...)
{
	va_list args;

	begin_verdict(EXIT_SKIP);
	printf("ok %u %s # SKIP ", test_number, test_name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	finish(EXIT_SKIP);
}

void expected_failure(const char *format, ...)
{
	va_list args;

	begin_verdict(EXIT_PASS);
	printf("ok %u %s # XFAIL ", test_number, test_name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	finish(EXIT_PASS);
}

void bail_out(const char *format, ...)
{
	char reason[200];
	int error = errno;
	size_t length;
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	length = strlen(reason);
	if (error)
		snprintf(reason + length, sizeof(reason) - length, ": %s",
			 strerror(error));
	fflush(stdout);
	if (test_name)
		ktap_error(reason);
	else
		fprintf(stderr, "repro: %s\n", reason);
	finish(EXIT_BAIL_OUT);
}

struct comparison {
	const unsigned char *bytes;
	int byte;
	size_t first, wrong, compared;
};

static void compare(size_t offset, size_t length, void *context)
{
	struct comparison *c = context;

	for (size_t i = offset; i < offset + length; i++)
		if (c->bytes[i] != c->byte && !c->wrong++)
			c->first = i;
	c->compared += length;
}

bool all_bytes(const unsigned char *bytes, size_t size, int byte)
{
	struct comparison c = { .bytes = bytes, .byte = byte };

	sample_visit(size, compare, &c);
	return !c.wrong;
}

void expect_bytes(const unsigned char *bytes, size_t size, int byte,
		  int instead, const char *where, const char *otherwise)
{
	struct comparison c = { .bytes = bytes, .byte = byte };

	sample_visit(size, compare, &c);
	if (!c.wrong)
		return;

	if (bytes[c.first] != instead)
		otherwise = "nobody wrote that: corruption";
	diagnostic("%s: expected 0x%02x, saw 0x%02x at offset %zu (%zu of %zu bytes differ): %s",
		   where, byte, bytes[c.first], c.first, c.wrong, c.compared,
		   otherwise);
	fail();
}
