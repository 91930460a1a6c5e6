#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "repro.h"

static const char *test_name;

void ktap_start(const char *name)
{
	test_name = name;
	printf("KTAP version 1\n1..1\n");
}

/* A verdict nobody received is not one. */
static _Noreturn void finish(enum exit_code code)
{
	if (fflush(stdout) || ferror(stdout))
		code = EXIT_BAIL_OUT;
	_exit(code);
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

void pass(void)
{
	printf("ok 1 %s\n", test_name);
	finish(EXIT_PASS);
}

void fail(void)
{
	printf("not ok 1 %s\n", test_name);
	finish(EXIT_FAIL);
}

void skip(const char *format, ...)
{
	va_list args;

	printf("ok 1 %s # SKIP ", test_name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	finish(EXIT_SKIP);
}

void expected_failure(const char *format, ...)
{
	va_list args;

	printf("ok 1 %s # XFAIL ", test_name);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	finish(EXIT_PASS);
}

void bail_out(const char *format, ...)
{
	int error = errno;
	va_list args;

	printf("Bail out! ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	if (error)
		printf(": %s", strerror(error));
	putchar('\n');
	finish(EXIT_BAIL_OUT);
}

void expect_bytes(const unsigned char *bytes, size_t size, int byte,
		  const char *where, const char *otherwise)
{
	size_t first = 0, wrong = 0;

	for (size_t i = 0; i < size; i++) {
		if (bytes[i] == byte)
			continue;
		if (!wrong++)
			first = i;
	}
	if (!wrong)
		return;

	if (bytes[first] != (byte ^ BEFORE_FORK ^ AFTER_FORK))
		otherwise = "nobody wrote that: corruption";
	diagnostic("%s: expected 0x%02x, saw 0x%02x at offset %zu (%zu of %zu bytes differ): %s",
		   where, byte, bytes[first], first, wrong, size, otherwise);
	fail();
}
