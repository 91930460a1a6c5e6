#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "block_device.h"
#include "repro.h"

/*
 * Any will do, for nothing is written to it and userfaultfd makes the read
 * last (direct_io.c).  Real ones first; zram is there as swap space.
 */
static const char *const prefixes[] = { "vd", "sd", "nvme", "ram", "loop", "zram" };

static bool usable(struct block_device *device, const char *name)
{
	char path[280];
	int block = 0;

	snprintf(path, sizeof(path), "/dev/%s", name);
	device->fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (device->fd < 0)
		return false;
	if (!ioctl(device->fd, BLKSSZGET, &block) && block > 0 &&
	    (size_t)block <= base_page_size() &&
	    pread(device->fd, device->content, block, 0) == block &&
	    device->content[0] != BEFORE_FORK) {
		device->block = block;
		snprintf(device->name, sizeof(device->name), "%s", name);
		return true;
	}
	close(device->fd);
	return false;
}

struct block_device find_block_device(void)
{
	struct block_device device = {
		.content = map_alone(base_page_size()),
	};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		DIR *dir = opendir("/sys/block");
		struct dirent *entry;

		if (!dir)
			skip("no /sys/block: %s", strerror(errno));
		while ((entry = readdir(dir)))
			if (!strncmp(entry->d_name, prefixes[i],
				     strlen(prefixes[i])) &&
			    usable(&device, entry->d_name)) {
				closedir(dir);
				return device;
			}
		closedir(dir);
	}
	skip("no disk that can be read directly");
}
