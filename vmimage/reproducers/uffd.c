#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "repro.h"
#include "uffd.h"

int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		skip("userfaultfd: %s", strerror(errno));
	if (ioctl(fd, UFFDIO_API, &api))
		skip("userfaultfd without features %#" PRIx64 ": %s", features,
		     strerror(errno));
	return fd;
}

void uffd_register(int uffd, void *addr, size_t size, uint64_t mode)
{
	struct uffdio_register request = {
		.range = { .start = (uintptr_t)addr, .len = size },
		.mode = mode,
	};

	if (ioctl(uffd, UFFDIO_REGISTER, &request))
		skip("userfaultfd does not watch this memory: %s",
		     strerror(errno));
}

void uffd_write_protect(int uffd, void *addr, size_t size)
{
	struct uffdio_writeprotect request = {
		.range = { .start = (uintptr_t)addr, .len = size },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &request))
		skip("userfaultfd does not write-protect this memory: %s",
		     strerror(errno));
}

void uffd_set_nonblocking(int uffd)
{
	if (fcntl(uffd, F_SETFL, O_NONBLOCK))
		bail_out("fcntl F_SETFL");
}

void uffd_await_fault(int uffd)
{
	struct uffd_msg message;

	if (read(uffd, &message, sizeof(message)) != sizeof(message))
		bail_out("read userfaultfd");
	errno = 0;
	if (message.event != UFFD_EVENT_PAGEFAULT)
		bail_out("userfaultfd tells of event %u", message.event);
}

void uffd_give_zeroes(int uffd, void *addr, size_t size)
{
	struct uffdio_zeropage request = {
		.range = { .start = (uintptr_t)addr, .len = size },
	};

	if (ioctl(uffd, UFFDIO_ZEROPAGE, &request))
		bail_out("ioctl UFFDIO_ZEROPAGE");
}
