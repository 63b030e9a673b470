# Some 60 MB: three large files and many small ones, with what trips backups: odd names, links, holes, modes.
set -e
mkdir -p /data/large /data/small && cd /data
head -c 24000000 /dev/urandom >large/random
seq 1 2400000 >large/text
head -c 16000000 /dev/urandom >large/again
truncate -s 8M large/sparse
for d in 1 2 3 4 5 6 7 8; do
	mkdir -p "small/dir-$d"
	for f in $(seq 40); do echo "file $f of $d $RANDOM" >"small/dir-$d/file-$f"; done
done
printf 'x' >"small/name with  blanks"
printf 'y' >"small/Grüße-äöü"
printf 'z' >"small/$(printf 'tab\tand\nnewline')"
: >small/empty
ln -s ../large/random small/symlink
ln large/text small/hardlink
chmod 0400 small/dir-1/file-1
chown 1234:4321 small/dir-1/file-2
mkdir -m 0700 small/empty-directory
sync
echo "$(find /data -type f | wc -l) files, $(du -sm --apparent-size /data | cut -f1) MB"
