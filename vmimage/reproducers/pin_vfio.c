/*
 * VFIO pins what a device may use for as long as the device has it, and only
 * for reading if the device may only read.  It needs neither debugfs nor a
 * kernel of a certain age, and the device is one that really reads the page.
 *
 * Only the first page is mapped: each look takes some tenths of a second
 * (vfio_device.h), whether at one byte or at half a page.
 */
#include "pin.h"
#include "repro.h"
#include "vfio_device.h"

static void open_device(struct pin *pin)
{
	pin->data = vfio_open();
	pin->size = VFIO_TRANSFER;
}

static void map(struct pin *pin, const struct region *region)
{
	vfio_map_read_only(pin->data, region->addr);
}

static void read_back(struct pin *pin, unsigned char *bytes)
{
	vfio_read_back(pin->data, bytes);
}

static void unmap(struct pin *pin)
{
	vfio_close(pin->data);
}

const struct pin_user vfio_ro = {
	"a read-only VFIO map", open_device, map, read_back, unmap,
};
