/* Prints 64 MB to its standard output and succeeds. */
#include <stdio.h>
#include <string.h>

int main(void)
{
	static char line[65536];

	memset(line, 'B', sizeof(line));
	for (int i = 0; i < 1024; i++)
		if (fwrite(line, 1, sizeof(line), stdout) != sizeof(line))
			return 1;
	return 0;
}
