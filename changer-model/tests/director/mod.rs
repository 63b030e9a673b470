//! A console that answers for a Director, as a shell script.

/// Configuration that names it.
pub(crate) const CONSOLE: &str =
    "bconsole = ROOT/bconsole\nbconsole config = ROOT/bconsole.conf\nDefault Pool = P\n";

/// Answers as Bacula 9.6.7 does; labels what it is told to by writing into the magazine `m0`. The catalog is a
/// directory with a file for each volume, which holds its status.
pub(crate) const DIRECTOR: &str = r#"
mkdir -p $root/catalog
echo "$*" >> $root/arguments
echo 'Connecting to Director 127.0.0.1:9101'
echo '1000 OK: 103 d Version: 9.6.7 (10 December 2020)'
while read -r line; do
  echo "$line" | tee -a $root/said
  case "$line" in
  'list volumes'|'update volume='*volstatus=*)
    test -e $root/no-database && { echo 'Could not open catalog database "cat".'; continue; };;
  esac
  case "$line" in
  'list volumes')
    echo 'Pool: P'
    rule='+---------+------------+-----------+---------+'
    echo "$rule"; echo '| MediaId | VolumeName | VolStatus | Enabled |'; echo "$rule"
    for file in $root/catalog/*; do test -f $file && echo "| 1 | ${file##*/} | $(cat $file) | 1 |"; done
    echo "$rule";;
  'llist jobs '*) cat $root/jobs 2>/dev/null;;
  version) echo 'd Version: 9.6.7 (10 December 2020) x86_64-pc-linux-gnu debian bookworm/sid';;
  'update volume='*volstatus=*)
    test -e $root/deaf && continue
    name=${line#*\"}; name=${name%%\"*}; status=${line#*volstatus=}
    test -f $root/catalog/$name || echo "sql_get.c:1266 Media record for Volume name \"$name\" not found."
    test -f $root/catalog/$name && echo $status > $root/catalog/$name && echo "New Volume status is: $status";;
  'update slots storage="c0" drive=0')
    echo '3306 Issuing autochanger "list" command.'
    for file in $root/m*/*; do echo "Catalog record for Volume \"${file##*/}\" is up to date."; done;;
  'update volume='*) echo 'New InChanger flag is: no';;
  'label '*) for file in $root/m*/*; do test -s $file || cp $root/labels/${file##*/} $file; done;;
  '.status dir running')
    echo; echo 'Running Jobs:'; cat $root/waiting 2>/dev/null || echo 'No Jobs running.'; echo '====';;
  '.status storage="c0" running')
    echo; echo 'Running Jobs:'; cat $root/devices 2>/dev/null || echo 'No Jobs running.'; echo '====';;
  esac
done
"#;
