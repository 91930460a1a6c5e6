/*
 * memfd_secret(2): memory that the kernel itself cannot reach by its own
 * mapping, so nobody must get hold of its pages.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "repro.h"
#include "ring.h"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

struct region create_secretmem(const struct memory *memory)
{
	struct region region = {
		.memory = memory,
		.size = base_page_size(),
		.original = BEFORE_FORK,
	};
	int fd = syscall(SYS_memfd_secret, 0);

	if (fd < 0)
		skip("memfd_secret (5.14; before 6.5 boot with secretmem.enable=1): %s",
		     strerror(errno));
	if (ftruncate(fd, region.size))
		bail_out("ftruncate");
	region.addr = mmap(NULL, region.size, PROT_READ | PROT_WRITE,
			   MAP_SHARED, fd, 0);
	if (region.addr == MAP_FAILED)
		bail_out("mmap");
	close(fd);
	region_fill(&region, BEFORE_FORK);
	return region;
}

/*
 * A refusal is one only if it is for what the memory is: the same call on
 * ordinary memory has worked before, and the error is GUP's own.
 */
static void expect_refused(const char *who, long result, int error)
{
	if (result >= 0) {
		diagnostic("%s: expected \"%s\", saw secret memory reached", who,
			   strerror(error));
		fail();
	}
	if (errno == error)
		return;
	diagnostic("%s: expected \"%s\", saw another error: %s", who,
		   strerror(error), strerror(errno));
	fail();
}

/* A page of this process that nobody hides. */
static unsigned char *ordinary_page(void)
{
	unsigned char *page = map_alone(base_page_size());

	*page = BEFORE_FORK;
	return page;
}

static ssize_t splice_page(void *addr)
{
	struct iovec iov = { addr, base_page_size() };
	int fds[2];

	if (pipe(fds))
		bail_out("pipe");
	return vmsplice(fds[1], &iov, 1, SPLICE_F_NONBLOCK);
}

static void vmsplice_refused(struct region *region,
			     const struct repro_case *self)
{
	(void)self;
	if (splice_page(ordinary_page()) < 0)
		bail_out("vmsplice of ordinary memory");
	expect_refused("vmsplice", splice_page(region->addr), EFAULT);
	pass();
}

static ssize_t read_process(void *addr)
{
	unsigned char bytes[64];
	struct iovec local = { bytes, sizeof(bytes) };
	struct iovec remote = { addr, sizeof(bytes) };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

/*
 * EFAULT is also what becomes of a page that GUP does hand out, as long as the
 * kernel does not map it: what is told apart is only whether the secret gets out.
 */
static void process_vm_refused(struct region *region,
			       const struct repro_case *self)
{
	(void)self;
	if (read_process(ordinary_page()) < 0)
		bail_out("process_vm_readv of ordinary memory");
	expect_refused("process_vm_readv", read_process(region->addr), EFAULT);
	pass();
}

static ssize_t read_mem(int fd, const void *addr)
{
	unsigned char byte;

	return pread(fd, &byte, 1, (uintptr_t)addr);
}

static void proc_mem_refused(struct region *region,
			     const struct repro_case *self)
{
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);

	(void)self;
	if (fd < 0)
		skip("open /proc/self/mem: %s", strerror(errno));
	if (read_mem(fd, ordinary_page()) < 0)
		bail_out("read ordinary memory by /proc/self/mem");
	expect_refused("/proc/self/mem", read_mem(fd, region->addr), EIO);
	pass();
}

static void io_uring_refused(struct region *region,
			     const struct repro_case *self)
{
	struct ring *ring = ring_open();

	(void)self;
	ring_register_buffer(ring, ordinary_page(), base_page_size());
	ring_unregister_buffers(ring);
	/*
	 * Not EOPNOTSUPP: that is what io_uring says of buffers in files, up to
	 * 6.5, once it has pinned them.
	 */
	expect_refused("a fixed buffer of io_uring",
		       ring_try_buffer(ring, region->addr, region->size) ? 0 : -1,
		       EFAULT);
	pass();
}

#define REFUSED(case_name, who, need, function) { \
	.name = case_name, \
	.description = who " cannot get hold of secret memory", \
	.class = "policy", \
	.source = "memfd_secret(2)", \
	.forms = FORM_BIT(SECRETMEM), \
	.needs = { need }, \
	.run = function, \
}

const struct repro_case secretmem_cases[] = {
	REFUSED("secret-vmsplice", "vmsplice()", NULL, vmsplice_refused),
	REFUSED("secret-process-vm-readv", "process_vm_readv()", "process_vm",
		process_vm_refused),
	REFUSED("secret-proc-mem", "/proc/self/mem", NULL, proc_mem_refused),
	REFUSED("secret-fixed-buffer", "a fixed buffer of io_uring", "io_uring",
		io_uring_refused),
	{ .name = NULL }
};
