# start open|close ... : does it outside the udev worker that asks for it, and returns at once
# open LUKS-UUID FS-UUID DEVICE ; close LUKS-UUID FS-UUID
if [ "$1" = start ]; then
    shift
    # udevd ends what its workers leave behind, so systemd is asked where it runs.
    if [ -d /run/systemd/system ]; then
        exec systemd-run --quiet --no-block --collect /bin/sh "$0" "$@"
    fi
    setsid /bin/sh "$0" "$@" </dev/null >/dev/null 2>&1 &
    exit 0
fi

luks=$2 fs=$3 device=${4-}
mapping=offsite-$luks

clear_away() {
    umount --lazy "@ROOT@/$fs" 2>/dev/null
    cryptsetup close --deferred "$mapping"
}

case $1 in
open)
    if [ -e "/dev/mapper/$mapping" ]; then
        # An event that was told twice, or what a pulled drive left behind.
        cryptsetup status "$mapping" | grep -q "device: *$device\$" && exit 0
        clear_away
    fi
    cryptsetup open --type luks --key-file "@KEY@" "$device" "$mapping"
    ;;
close)
    # The drive may be back already, under another name.
    [ -e "/dev/disk/by-uuid/$luks" ] || clear_away
    ;;
esac
