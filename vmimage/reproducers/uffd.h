/* userfaultfd(2), as far as the cases need it. */
#ifndef UFFD_H
#define UFFD_H

#include <linux/userfaultfd.h>
#include <stddef.h>
#include <stdint.h>

/* Skips where there is none, or none with those features. */
int uffd_open(uint64_t features);
/* mode: UFFDIO_REGISTER_MODE_*; skips if the memory cannot be watched. */
void uffd_register(int uffd, void *addr, size_t size, uint64_t mode);
void uffd_write_protect(int uffd, void *addr, size_t size);
/* Reading it then says so if there is nothing to read. */
void uffd_set_nonblocking(int uffd);
/* Returns when somebody waits for a page there. */
void uffd_await_fault(int uffd);
/* Lets it have zeroes. */
void uffd_give_zeroes(int uffd, void *addr, size_t size);

#endif
