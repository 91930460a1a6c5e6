/*
 * VFIO by container and group, which every kernel version has: the device is
 * bound to vfio-pci, its group put into a container, and memory is mapped into
 * the container for the device to use.
 *
 * edu: QEMU's docs/specs/edu.rst.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "repro.h"
#include "vfio_device.h"

#define PCI_DEVICES "/sys/bus/pci/devices"
#define EDU_VENDOR "0x1234"
#define EDU_DEVICE "0x11e8"

#define EDU_IDENTIFICATION 0x00
#define EDU_IS_EDU 0x010000ed
#define EDU_DMA_SOURCE 0x80
#define EDU_DMA_TARGET 0x88
#define EDU_DMA_COUNT 0x90
#define EDU_DMA_COMMAND 0x98
#define EDU_DMA_START 0x1
#define EDU_DMA_FROM_BUFFER 0x2
#define EDU_BUFFER 0x40000

/* What the device calls the two pages: edu has 28 address lines. */
#define PAGE_IOVA 0x100000
#define WINDOW_IOVA 0x200000

/* Neither is what a case writes, so they tell data that did not arrive. */
#define NOT_READ 0xe1
#define NOT_WRITTEN 0xe2

struct vfio {
	int container;
	int group;
	int device;
	volatile uint32_t *registers;
	/* Of our own: the device writes there what it has read. */
	unsigned char *window;
};

/* --- sysfs: find the device and give it to vfio-pci ------------------------ */

/* The device's place on the bus: 0000:00:02.0 */
struct address {
	char text[32];
};

static char *attribute(const struct address *address, const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", address->text, name);
	return path;
}

static bool attribute_is(const struct address *address, const char *name,
			 const char *value)
{
	char line[64];

	return read_line(attribute(address, name), line, sizeof(line)) &&
	       !strcmp(line, value);
}

static struct address find_edu(void)
{
	DIR *devices = opendir(PCI_DEVICES);
	struct dirent *entry;
	struct address address;

	if (!devices)
		skip("no PCI bus: %s", strerror(errno));
	while ((entry = readdir(devices))) {
		snprintf(address.text, sizeof(address.text), "%.31s",
			 entry->d_name);
		if (attribute_is(&address, "vendor", EDU_VENDOR) &&
		    attribute_is(&address, "device", EDU_DEVICE)) {
			closedir(devices);
			return address;
		}
	}
	skip("no device edu (" EDU_VENDOR ":" EDU_DEVICE ")");
}

/* The last part of what the link points to, or NULL if there is no such link. */
static const char *link_target(const struct address *address, const char *name)
{
	static char target[PATH_MAX];
	ssize_t length = readlink(attribute(address, name), target,
				  sizeof(target) - 1);

	if (length < 0)
		return NULL;
	target[length] = '\0';
	return strrchr(target, '/') + 1;
}

/*
 * A guest that QEMU restored has the device as it is after power-on: edu keeps
 * no state.  The kernel does not know, so its address is told to it again.
 */
static void restore_bar(const struct address *address)
{
	char resources[64];
	uint32_t bar, is;
	int fd;

	if (!read_line(attribute(address, "resource"), resources,
		       sizeof(resources)))
		bail_out("read %s", attribute(address, "resource"));
	bar = strtoull(resources, NULL, 16);
	fd = open(attribute(address, "config"), O_RDWR | O_CLOEXEC);
	if (fd < 0)
		bail_out("open %s", attribute(address, "config"));
	if (pread(fd, &is, sizeof(is), PCI_BASE_ADDRESS_0) != sizeof(is) ||
	    ((is & PCI_BASE_ADDRESS_MEM_MASK) != bar &&
	     pwrite(fd, &bar, sizeof(bar), PCI_BASE_ADDRESS_0) != sizeof(bar)))
		bail_out("restore the address of the device");
	close(fd);
}

static void bind_to_vfio(const struct address *address)
{
	const char *driver = link_target(address, "driver");

	if (driver && !strcmp(driver, "vfio-pci"))
		return;
	if (access("/sys/bus/pci/drivers/vfio-pci", F_OK))
		skip("no driver vfio-pci");
	if (driver && !write_line(attribute(address, "driver/unbind"),
				  address->text))
		bail_out("unbind the device's driver");
	if (!write_line(attribute(address, "driver_override"), "vfio-pci") ||
	    !write_line("/sys/bus/pci/drivers_probe", address->text))
		bail_out("bind the device to vfio-pci");
}

/* --- VFIO ------------------------------------------------------------------ */

static int open_container(void)
{
	int fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		skip("no /dev/vfio/vfio: %s", strerror(errno));
	if (ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0)
		skip("VFIO without a type 1 IOMMU");
	return fd;
}

static int open_group(const struct address *address, int container)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	const char *group = link_target(address, "iommu_group");
	char path[64];
	int fd;

	if (!group)
		skip("no IOMMU for the device");
	snprintf(path, sizeof(path), "/dev/vfio/%.32s", group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		bail_out("open %s", path);
	if (ioctl(fd, VFIO_GROUP_GET_STATUS, &status))
		bail_out("ioctl VFIO_GROUP_GET_STATUS");
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		skip("the device's IOMMU group has others that are in use");
	if (ioctl(fd, VFIO_GROUP_SET_CONTAINER, &container))
		bail_out("ioctl VFIO_GROUP_SET_CONTAINER");
	/* Without interrupt remapping VFIO wants to be told that we trust it. */
	try_write("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
		  "1");
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		bail_out("ioctl VFIO_SET_IOMMU");
	return fd;
}

static struct vfio_region_info region_info(int device, unsigned int index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info))
		bail_out("ioctl VFIO_DEVICE_GET_REGION_INFO");
	return info;
}

/* vfio-pci hands the device out unable to reach memory. */
static void enable_bus_mastering(int device)
{
	off_t command = region_info(device, VFIO_PCI_CONFIG_REGION_INDEX).offset +
			PCI_COMMAND;
	uint16_t value;

	if (pread(device, &value, sizeof(value), command) != sizeof(value))
		bail_out("read the command register");
	value |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(device, &value, sizeof(value), command) != sizeof(value))
		bail_out("write the command register");
}

static volatile uint32_t *map_registers(int device)
{
	struct vfio_region_info info =
		region_info(device, VFIO_PCI_BAR0_REGION_INDEX);
	volatile uint32_t *registers;

	registers = mmap(NULL, base_page_size(), PROT_READ | PROT_WRITE,
			 MAP_SHARED, device, info.offset);
	if (registers == MAP_FAILED)
		bail_out("mmap the device's registers");
	return registers;
}

static void map_dma(const struct vfio *vfio, const void *addr, uint64_t iova,
		    uint32_t flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = flags,
		.vaddr = (uintptr_t)addr,
		.iova = iova,
		.size = base_page_size(),
	};

	if (ioctl(vfio->container, VFIO_IOMMU_MAP_DMA, &map))
		bail_out("ioctl VFIO_IOMMU_MAP_DMA");
}

struct vfio *vfio_open(void)
{
	struct vfio *vfio = calloc(1, sizeof(*vfio));
	struct address address;

	if (!vfio)
		bail_out("calloc");
	vfio->container = open_container();
	address = find_edu();
	restore_bar(&address);
	bind_to_vfio(&address);
	vfio->group = open_group(&address, vfio->container);
	vfio->device = ioctl(vfio->group, VFIO_GROUP_GET_DEVICE_FD,
			     address.text);
	if (vfio->device < 0)
		bail_out("ioctl VFIO_GROUP_GET_DEVICE_FD");
	enable_bus_mastering(vfio->device);
	vfio->registers = map_registers(vfio->device);
	if (vfio->registers[EDU_IDENTIFICATION / 4] != EDU_IS_EDU) {
		errno = 0;
		bail_out("the device says it is %08x, not edu",
			 vfio->registers[EDU_IDENTIFICATION / 4]);
	}
	/* Shared, or a fork would have a say in whose it is. */
	vfio->window = mmap(NULL, base_page_size(), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (vfio->window == MAP_FAILED)
		bail_out("mmap");
	map_dma(vfio, vfio->window, WINDOW_IOVA,
		VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
	return vfio;
}

void vfio_map_read_only(struct vfio *vfio, const void *addr)
{
	map_dma(vfio, addr, PAGE_IOVA, VFIO_DMA_MAP_FLAG_READ);
}

/* --- edu -------------------------------------------------------------------- */

static void transfer(const struct vfio *vfio, uint32_t source, uint32_t target,
		     uint32_t command)
{
	vfio->registers[EDU_DMA_SOURCE / 4] = source;
	vfio->registers[EDU_DMA_TARGET / 4] = target;
	vfio->registers[EDU_DMA_COUNT / 4] = VFIO_TRANSFER;
	vfio->registers[EDU_DMA_COMMAND / 4] = command | EDU_DMA_START;
	/* Each look makes QEMU leave the guest, so there are few. */
	while (vfio->registers[EDU_DMA_COMMAND / 4] & EDU_DMA_START)
		usleep(5000);
}

void vfio_read_back(struct vfio *vfio, unsigned char *bytes)
{
	/*
	 * A device that cannot read leaves its buffer as it was, which may be
	 * as an earlier test left it.
	 */
	memset(vfio->window, NOT_READ, VFIO_TRANSFER);
	transfer(vfio, WINDOW_IOVA, EDU_BUFFER, 0);
	memset(vfio->window, NOT_WRITTEN, VFIO_TRANSFER);
	transfer(vfio, PAGE_IOVA, EDU_BUFFER, 0);
	transfer(vfio, EDU_BUFFER, WINDOW_IOVA, EDU_DMA_FROM_BUFFER);
	memcpy(bytes, vfio->window, VFIO_TRANSFER);
	errno = 0;
	if (all_bytes(bytes, VFIO_TRANSFER, NOT_WRITTEN))
		bail_out("the device did not write what it read");
	if (all_bytes(bytes, VFIO_TRANSFER, NOT_READ))
		bail_out("the device did not read the page");
}

void vfio_close(struct vfio *vfio)
{
	close(vfio->device);
	close(vfio->group);
	close(vfio->container);
	munmap((void *)vfio->registers, base_page_size());
	munmap(vfio->window, base_page_size());
	free(vfio);
}
