# Contents, names, types, modes, owners, times and link targets of /data against /restored/data.
# Bacula keeps times in whole seconds, and none of symbolic links.
set -e
list() {
	cd "$1"
	find . -type f -printf '%P %y %m %U:%G %Ts %s\0'
	find . ! -type f -printf '%P %y %m %U:%G %l\0'
}
list /data | sort -z | sha256sum >/tmp/before
list /restored/data | sort -z | sha256sum >/tmp/after
diff -r --no-dereference /data /restored/data
cmp /tmp/before /tmp/after
echo "$(find /data -type f | wc -l) files are the same in contents, names, modes, owners and times"
