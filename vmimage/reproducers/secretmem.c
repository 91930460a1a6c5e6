/*
 * memfd_secret(2): memory that the kernel itself cannot reach by its own
 * mapping, so nobody must get hold of its pages.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "repro.h"

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

static void expect_refused(bool refused, const char *who)
{
	if (refused)
		return;
	diagnostic("%s: expected to be refused: secret memory was reached",
		   who);
	fail();
}

static void vmsplice_refused(struct region *region,
			     const struct repro_case *self)
{
	struct iovec iov = { region->addr, region->size };
	int fds[2];

	(void)self;
	if (pipe(fds))
		bail_out("pipe");
	expect_refused(vmsplice(fds[1], &iov, 1, SPLICE_F_NONBLOCK) < 0,
		       "vmsplice");
	pass();
}

static void process_vm_refused(struct region *region,
			       const struct repro_case *self)
{
	unsigned char bytes[64];
	struct iovec local = { bytes, sizeof(bytes) };
	struct iovec remote = { region->addr, sizeof(bytes) };

	(void)self;
	expect_refused(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) < 0,
		       "process_vm_readv");
	pass();
}

static void proc_mem_refused(struct region *region,
			     const struct repro_case *self)
{
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	unsigned char byte;

	(void)self;
	if (fd < 0)
		skip("open /proc/self/mem: %s", strerror(errno));
	expect_refused(pread(fd, &byte, 1, (uintptr_t)region->addr) < 0,
		       "/proc/self/mem");
	pass();
}

static void io_uring_refused(struct region *region,
			     const struct repro_case *self)
{
	struct iovec iov = { region->addr, region->size };
	struct io_uring_params params = { 0 };
	int fd = syscall(SYS_io_uring_setup, 1, &params);

	(void)self;
	if (fd < 0)
		skip("io_uring_setup: %s", strerror(errno));
	expect_refused(syscall(SYS_io_uring_register, fd,
			       IORING_REGISTER_BUFFERS, &iov, 1) < 0,
		       "a fixed buffer of io_uring");
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
