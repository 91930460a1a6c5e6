/*
 * Access to another process's memory.  What the one reads is what the other
 * would, and writing for another breaks COW as its own write would.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "repro.h"

typedef ssize_t transfer(pid_t pid, const struct iovec *local,
			 unsigned long local_count, const struct iovec *remote,
			 unsigned long remote_count, unsigned long flags);

/* As many pieces as one request takes (UIO_MAXIOV), or fewer. */
#define PIECES 1024

struct batch {
	transfer *transfer;
	pid_t pid;
	unsigned char *local, *remote;
	struct iovec local_pieces[PIECES], remote_pieces[PIECES];
	size_t count, bytes;
};

static void transfer_batch(struct batch *batch)
{
	ssize_t done;

	if (!batch->count)
		return;
	done = batch->transfer(batch->pid, batch->local_pieces, batch->count,
			       batch->remote_pieces, batch->count, 0);
	if (done < 0 && (errno == ENOSYS || errno == EPERM))
		skip("process_vm_readv or process_vm_writev: %s",
		     strerror(errno));
	if (done < 0)
		bail_out("process_vm_readv or process_vm_writev");
	errno = 0;
	if ((size_t)done != batch->bytes)
		bail_out("process_vm_readv or process_vm_writev: %zd of %zu bytes",
			 done, batch->bytes);
	batch->count = batch->bytes = 0;
}

static void add_piece(size_t offset, size_t length, void *context)
{
	struct batch *batch = context;

	if (batch->count == PIECES)
		transfer_batch(batch);
	batch->local_pieces[batch->count] =
		(struct iovec){ batch->local + offset, length };
	batch->remote_pieces[batch->count++] =
		(struct iovec){ batch->remote + offset, length };
	batch->bytes += length;
}

static void transfer_samples(transfer *transfer, pid_t pid,
			     unsigned char *local, const struct region *region)
{
	static struct batch batch;

	batch.transfer = transfer;
	batch.pid = pid;
	batch.local = local;
	batch.remote = region->addr;
	sample_visit(region->size, add_piece, &batch);
	transfer_batch(&batch);
}

static void expect_remote(pid_t pid, const struct region *region, int byte,
			  int instead, const char *where, const char *otherwise)
{
	unsigned char *bytes = map_alone(region->size);

	transfer_samples(process_vm_readv, pid, bytes, region);
	expect_bytes(bytes, region->size, byte, instead, where, otherwise);
}

static void read_parent(struct peer *parent, const struct region *region)
{
	(void)parent;
	expect_remote(getppid(), region, AFTER_FORK, BEFORE_FORK,
		      "the parent's memory as the child reads it",
		      "the parent's write is not visible: wrong COW");
}

static void read_after_fork(struct region *region, const struct repro_case *self)
{
	struct peer *child = peer_fork(read_parent, region);

	(void)self;
	require_shared_with(peer_pid(child), region);
	expect_remote(peer_pid(child), region, BEFORE_FORK, AFTER_FORK,
		      "the child's memory as the parent reads it",
		      "nobody has written yet: corruption");
	region_fill(region, AFTER_FORK);
	expect_remote(peer_pid(child), region, BEFORE_FORK, AFTER_FORK,
		      "the child's memory after the parent wrote",
		      "the parent's write is visible: missed COW");
	peer_finish(child);
	pass();
}

static void compare_own(struct peer *parent, const struct region *region)
{
	(void)parent;
	expect_region(region, AFTER_FORK, BEFORE_FORK,
		      "child's memory after the parent wrote there",
		      "the child does not see it: wrong COW");
}

static void write_after_fork(struct region *region, const struct repro_case *self)
{
	struct peer *child = peer_fork(compare_own, region);
	unsigned char *bytes = map_alone(region->size);

	(void)self;
	require_shared_with(peer_pid(child), region);
	sample_fill(bytes, region->size, AFTER_FORK);
	transfer_samples(process_vm_writev, peer_pid(child), bytes, region);
	expect_region(region, BEFORE_FORK, AFTER_FORK,
		      "parent's memory after it wrote to the child's",
		      "the write to the child is visible: missed COW");
	peer_finish(child);
	pass();
}

const struct repro_case process_vm_cases[] = {
	{
		.name = "process-vm-readv",
		.description = "process_vm_readv() of a child does not show its parent's writes",
		.class = "missed-cow",
		.source = "process_vm_readv(2) on the memory of fork-basic",
		.forms = ANON_FORMS,
		.needs = { "process_vm" },
		.run = read_after_fork,
	},
	{
		.name = "process-vm-writev",
		.description = "process_vm_writev() to a child does not change its parent's memory",
		.class = "missed-cow",
		.source = "process_vm_writev(2) on the memory of fork-basic",
		.forms = ANON_FORMS,
		.needs = { "process_vm" },
		.run = write_after_fork,
	},
	{ .name = NULL }
};
