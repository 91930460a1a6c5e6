/* Small files by which the kernel tells and takes settings: /proc, /sys. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "repro.h"

bool read_line(const char *path, char *line, int size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return false;
	got = read(fd, line, size - 1);
	close(fd);
	if (got <= 0)
		return false;
	line[got] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return true;
}

long long read_number(const char *path)
{
	char line[64];

	return read_line(path, line, sizeof(line)) ? atoll(line) : -1;
}

bool write_line(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) >= 0;
	close(fd);
	return ok;
}

void try_write(const char *path, const char *text)
{
	if (!write_line(path, text) && errno != ENOENT)
		diagnostic("write %s: %s", path, strerror(errno));
}
