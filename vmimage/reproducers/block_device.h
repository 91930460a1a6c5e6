/* A disk to read from, past the page cache. */
#ifndef BLOCK_DEVICE_H
#define BLOCK_DEVICE_H

#include <stddef.h>

struct block_device {
	char name[256];
	int fd;			/* O_RDONLY | O_DIRECT */
	size_t block;		/* the least that can be read */
	unsigned char *content;	/* of its first block */
};

/* Skips if the guest has none that can be read. */
struct block_device find_block_device(void);

#endif
