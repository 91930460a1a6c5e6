#!/bin/sh
# Builds the reproducers: build.sh OUTFILE.  CC names the compiler.
#
# The binary depends on sources, compiler and libc only, not on where or when
# it is built: its hash identifies the reproducers in a result.
set -eu

if [ $# -ne 1 ]; then
	echo "usage: $0 OUTFILE" >&2
	exit 2
fi
sources=$(cd "$(dirname "$0")" && pwd)

# The linker gets the objects in this order; a glob's order depends on the locale.
LC_ALL=C
export LC_ALL

# -O1: the cases are their system calls and memory accesses, not speed.
# shellcheck disable=SC2086  # CC may carry arguments, as in CC='ccache gcc'
${CC:-cc} -O1 -Wall -Wextra -Werror -std=gnu11 -pthread -static -s \
	-ffile-prefix-map="$sources"=. -Wl,--build-id=none \
	-o "$1" "$sources"/*.c
