#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "repro.h"
#include "ring.h"

struct ring {
	int fd;
	_Atomic unsigned int *sq_tail, *cq_head, *cq_tail;
	unsigned int *sq_array;
	struct io_uring_sqe *sqe;	/* there is but one */
	struct io_uring_cqe *cqes;
	unsigned int cq_mask;
};

static void *map_ring(int fd, size_t size, off_t what)
{
	void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_POPULATE, fd, what);

	if (addr == MAP_FAILED)
		bail_out("mmap of a ring");
	return addr;
}

struct ring *ring_open(void)
{
	struct io_uring_params params = { 0 };
	struct ring *ring = calloc(1, sizeof(*ring));
	char *sq, *cq;

	if (!ring)
		bail_out("calloc");
	ring->fd = syscall(SYS_io_uring_setup, 1, &params);
	if (ring->fd < 0)
		skip("io_uring_setup: %s", strerror(errno));
	sq = map_ring(ring->fd, params.sq_off.array + sizeof(unsigned int),
		      IORING_OFF_SQ_RING);
	cq = map_ring(ring->fd, params.cq_off.cqes +
		      params.cq_entries * sizeof(struct io_uring_cqe),
		      IORING_OFF_CQ_RING);
	ring->sqe = map_ring(ring->fd, sizeof(struct io_uring_sqe),
			     IORING_OFF_SQES);
	ring->sq_tail = (void *)(sq + params.sq_off.tail);
	ring->sq_array = (void *)(sq + params.sq_off.array);
	ring->cq_head = (void *)(cq + params.cq_off.head);
	ring->cq_tail = (void *)(cq + params.cq_off.tail);
	ring->cqes = (void *)(cq + params.cq_off.cqes);
	ring->cq_mask = params.cq_entries - 1;
	return ring;
}

bool ring_try_buffer(struct ring *ring, void *addr, size_t size)
{
	struct iovec iov = { .iov_base = addr, .iov_len = size };

	return !syscall(SYS_io_uring_register, ring->fd,
			IORING_REGISTER_BUFFERS, &iov, 1);
}

void ring_register_buffer(struct ring *ring, void *addr, size_t size)
{
	if (ring_try_buffer(ring, addr, size))
		return;
	/* Having no memory for it is not a refusal. */
	if (errno == ENOMEM)
		bail_out("io_uring does not register a buffer");
	diagnostic("a fixed buffer of io_uring: expected it, saw %s: pin refused",
		   strerror(errno));
	fail();
}

void ring_unregister_buffers(struct ring *ring)
{
	if (syscall(SYS_io_uring_register, ring->fd, IORING_UNREGISTER_BUFFERS,
		    NULL, 0))
		bail_out("io_uring_register IORING_UNREGISTER_BUFFERS");
}

/* Returns the result of the request. */
static int submit_and_wait(struct ring *ring)
{
	unsigned int head = atomic_load(ring->cq_head);
	int result;

	ring->sq_array[0] = 0;
	atomic_fetch_add(ring->sq_tail, 1);
	while (syscall(SYS_io_uring_enter, ring->fd, 1, 1,
		       IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		if (errno != EINTR)
			bail_out("io_uring_enter");
	errno = 0;
	if (atomic_load(ring->cq_tail) == head)
		bail_out("io_uring_enter returned without a completion");
	result = ring->cqes[head & ring->cq_mask].res;
	atomic_store(ring->cq_head, head + 1);
	return result;
}

void ring_read_back(struct ring *ring, void *addr, size_t size,
		    unsigned char *bytes)
{
	int result, file = temporary_file();

	*ring->sqe = (struct io_uring_sqe){
		.opcode = IORING_OP_WRITE_FIXED,
		.fd = file,
		.addr = (uintptr_t)addr,
		.len = size,
	};
	result = submit_and_wait(ring);
	if (result < 0)
		errno = -result;
	else
		errno = 0;
	if (result != (int)size)
		bail_out("io_uring wrote %d of %zu bytes", result, size);
	if (pread(file, bytes, size, 0) != (ssize_t)size)
		bail_out("read what io_uring wrote");
	close(file);
}

void ring_close(struct ring *ring)
{
	close(ring->fd);
	free(ring);
}
