/* io_uring by its system calls, as far as a fixed buffer needs it. */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>

struct ring;

/* Skips where there is no io_uring. */
struct ring *ring_open(void);
/* Pins the buffer until it is unregistered; false, with errno, if refused. */
bool ring_try_buffer(struct ring *ring, void *addr, size_t size);
/* Likewise; skips if that is refused. */
void ring_register_buffer(struct ring *ring, void *addr, size_t size);
void ring_unregister_buffers(struct ring *ring);
/* Reads the buffer through the pin: writes it to a file and reads that. */
void ring_read_back(struct ring *ring, void *addr, size_t size,
		    unsigned char *bytes);
void ring_close(struct ring *ring);

#endif
