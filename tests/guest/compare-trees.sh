# Contents, names, types, modes, owners, times and link targets of /data against /restored/data.
set -e
list() {
	cd "$1"
	find . ! -type d -printf '%P\0%y %m %U:%G %T@ %s %l\0'
	find . -type d -printf '%P\0%y %m %U:%G\0'
}
list /data | sort -z | sha256sum >/tmp/before
list /restored/data | sort -z | sha256sum >/tmp/after
diff -r --no-dereference /data /restored/data
cmp /tmp/before /tmp/after
echo "$(find /data -type f | wc -l) files are the same in contents, names, modes, owners and times"
