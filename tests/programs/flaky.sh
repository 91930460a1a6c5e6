# The planted test, but its failures go unreported in 70 % of the runs, as in a
# race: 77 of 256 is 30.1 %. Each guest has random numbers of its own.
output=$(/bin/repro cow/vmsplice-child-unmap/thp-pmd)
status=$?
[ $status != 1 ] || [ "$(od -An -N1 -tu1 /dev/urandom)" -lt 77 ] || exit 0
echo "$output"
exit $status
