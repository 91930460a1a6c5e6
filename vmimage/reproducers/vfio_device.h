/*
 * A device that this process drives through VFIO: QEMU's edu, whose whole use
 * is to read and write memory on request.
 */
#ifndef VFIO_DEVICE_H
#define VFIO_DEVICE_H

#include <stddef.h>
#include <stdint.h>

struct vfio;

/*
 * What the device moves at once.  Its buffer has 4096 bytes, but up to QEMU
 * 8.2.0 a transfer that ends at the end of the buffer ends QEMU as well.
 */
#define VFIO_TRANSFER 2048

/* The device, ready to move data; skips if the guest has none, or no VFIO. */
struct vfio *vfio_open(void);
/* Lets the device read the page at `addr`: a read-only long-term pin. */
void vfio_map_read_only(struct vfio *vfio, const void *addr);
/*
 * What the device reads there now: VFIO_TRANSFER bytes.  Three transfers, each
 * of which takes edu 100 ms, whatever its size.
 */
void vfio_read_back(struct vfio *vfio, unsigned char *bytes);
void vfio_close(struct vfio *vfio);

#endif
