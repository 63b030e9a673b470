//! A console that answers for a Director, as a shell script.

/// Configuration that names it.
pub(crate) const CONSOLE: &str =
    "bconsole = ROOT/bconsole\nbconsole config = ROOT/bconsole.conf\nDefault Pool = P\n";

/// Answers as Bacula 9.6.7 does; labels what it is told to by writing into the magazine `m0`. The catalog is a
/// directory with a file for each volume, which holds its status; `places` has one for each volume with its slot and
/// `InChanger`, where it was told of them. `update slots` takes the slots from the changer's own state.
pub(crate) const DIRECTOR: &str = r#"
mkdir -p $root/catalog $root/places
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
    rule='+---------+------------+-----------+---------+----------+------+-----------+'
    echo "$rule"
    echo '| MediaId | VolumeName | VolStatus | Enabled | VolBytes | Slot | InChanger |'
    echo "$rule"
    for file in $root/catalog/*; do
      test -f $file || continue
      place='0 0'; test -f $root/places/${file##*/} && place=$(cat $root/places/${file##*/})
      bytes=701383; test -f $root/bytes/${file##*/} && bytes=$(cat $root/bytes/${file##*/})
      echo "| 1 | ${file##*/} | $(cat $file) | 1 | $bytes | ${place% *} | ${place#* } |"
    done
    echo "$rule";;
  'llist jobs '*) cat $root/jobs 2>/dev/null;;
  version) echo 'd Version: 9.6.7 (10 December 2020) x86_64-pc-linux-gnu debian bookworm/sid';;
  'update volume='*volstatus=*)
    test -e $root/deaf && continue
    name=${line#*\"}; name=${name%%\"*}; status=${line#*volstatus=}; status=${status%% *}
    test -f $root/catalog/$name || echo "sql_get.c:1266 Media record for Volume name \"$name\" not found."
    test -f $root/catalog/$name && echo $status > $root/catalog/$name && echo "New Volume status is: $status"
    case "$line" in *inchanger=no) echo '0 0' > $root/places/$name; echo 'New InChanger flag is: no';; esac;;
  'update slots storage="c0" drive=0')
    echo '3306 Issuing autochanger "list" command.'
    ls $root/m*/* >/dev/null 2>&1 || { echo 'No Volumes found to label, or no barcodes.'; continue; }
    for file in $root/places/*; do test -f $file && echo '0 0' > $file; done
    for list in $(sed -n 's/.*"volumes_file": "\(.*\)".*/\1/p' $root/work/state.json); do
      sed -n 's/^\[\([0-9]*\),"\([^"]*\)".*/\2 \1/p' $root/work/$list
    done | while read name slot; do
      ls $root/m*/$name >/dev/null 2>&1 && echo "$slot 1" > $root/places/$name
    done
    for file in $root/m*/*; do echo "Catalog record for Volume \"${file##*/}\" is up to date."; done;;
  'update volume='*inchanger=*)
    test -e $root/stubborn && continue
    name=${line#*\"}; name=${name%%\"*}; slot=${line#*slot=}; slot=${slot%% *}; flag=${line#*inchanger=}
    test $flag = yes && echo "$slot 1" > $root/places/$name || echo "$slot 0" > $root/places/$name
    echo "New InChanger flag is: $flag";;
  'label '*) for file in $root/m*/*; do test -s $file || cp $root/labels/${file##*/} $file; done;;
  '.status dir running')
    echo; echo 'Running Jobs:'; cat $root/waiting 2>/dev/null || echo 'No Jobs running.'; echo '====';;
  '.status storage="c0" running')
    echo; echo 'Running Jobs:'; cat $root/devices 2>/dev/null || echo 'No Jobs running.'; echo '====';;
  esac
done
"#;
