/* Prints to the kernel's console as fast as it goes, for as long as it may. */
#include <stdio.h>
#include <string.h>

int main(void)
{
	static char line[4096];
	FILE *f = fopen("/dev/console", "w");

	if (!f)
		return 1;
	memset(line, 'A', sizeof(line));
	for (;;)
		if (fwrite(line, 1, sizeof(line), f) != sizeof(line))
			return 1;
}
