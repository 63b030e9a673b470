# One tear-out, seen from inside: starts the step that is to be hit, tells when the drive is in the midst of it, and
# when the drive has gone looks at what is left. The caller sets: moment, device, at, magazine.

disk=$(basename "$(readlink -e "$device")")
# The unit's main process, and its child, which does the work.
main() { systemctl show -P MainPID offsited; }
worker() { pgrep -P "$(main)" -x offsited; }
main=$(main) pid=$(worker) || { echo "no worker: $(systemctl status offsited)"; exit 1; }

# Without forks, since the step doesn't wait: system call numbers are those of x86-64.
in_call() { local n rest file; for file in /proc/$pid/task/*/syscall; do read -r n rest <"$file"; [[ $n = "$1" ]] && return; done; return 1; }
waits() { local r w; read -r r w <"/sys/block/$disk/inflight" && ((r + w > 0)); }
unlocked() { set -- "/sys/block/$disk/holders/"*; [[ -e $1 ]]; }
mounted() { local lines; mapfile -t lines </proc/mounts; [[ ${lines[*]} = *" $at "* ]]; }

case $moment in
unlock) step() { ls "$at"; }; hit() { ! unlocked && waits; } ;;
mount) step() { ls "$at"; }; hit() { unlocked && ! mounted && in_call 165 && waits; } ;;
write) step() { dd if=/dev/zero of="$at/written" bs=64k count=4000 oflag=dsync status=none; }; hit() { mounted && waits && ! in_call 306; } ;;
flush) step() { dd if=/dev/urandom of="$at/flushed" bs=64k count=64 status=none && offsite lock "$magazine"; }; hit() { mounted && in_call 306 && waits; } ;;
unmount) step() { echo dirty >"$at/dirty"; offsite lock "$magazine"; }; hit() { in_call 166 && waits; } ;;
close) step() { offsite lock "$magazine"; }; hit() { unlocked && ! mounted && ! in_call 166; } ;;
idle) step() { :; }; hit() { ! unlocked; } ;;
esac

exec 9<> <(:)
step >/run/step 2>&1 &
step=$!
began=no until=0 near=no ended=
while [[ -e /sys/block/$disk/inflight ]]; do
    now=$EPOCHREALTIME
    [[ $near = no ]] && unlocked && near=yes && echo near
    if hit 2>/dev/null; then
        [[ $began = yes ]] || echo hit
        began=yes until=$now
    elif [[ $began = yes && -e /sys/block/$disk/inflight ]] && ((${now%.*} > ${until%.*} + 3)); then
        echo passed
        break
    elif [[ $began = no && -z $ended ]]; then
        kill -0 $step 2>/dev/null || ended=${now%.*}
    elif [[ $began = no ]] && ((${now%.*} > ended + 20)); then
        # It was over between two looks.
        echo passed
        break
    fi
    read -rt 0.01 -u 9
done
echo "held $until gone $EPOCHREALTIME"

# Whoever used the drive gets an answer, and nobody hangs.
for n in $(seq 600); do kill -0 $step 2>/dev/null || break; sleep 0.1; done
if kill -0 $step 2>/dev/null; then
    echo "hung: the step: $(cat /proc/$step/wchan)"
    kill -9 $step
else
    wait $step
    echo "step $?"
fi
clean() {
    stale=$(dmsetup ls | grep offsite-) mounts=$(grep " /srv/offsite/" /proc/mounts)
    hung=$(ps -eLo stat=,pid=,comm=,wchan:30= | grep ^D)
    [[ -z $stale$mounts$hung ]] && offsite status | grep -q "^$magazine *away"
}
for n in $(seq 300); do clean && break; sleep 0.2; done
[[ -z $stale ]] || echo "stale: $stale"
[[ -z $mounts ]] || echo "mounted: $mounts"
[[ -z $hung ]] || echo "hung: $hung"
begun=${EPOCHREALTIME%.*}
timeout -s KILL 60 ls "$at" >/run/absent 2>&1
[[ $? = 2 && $((${EPOCHREALTIME%.*} - begun)) -lt 30 ]] || echo "not absent: $(cat /run/absent)"
offsite status | grep -q "^$magazine *away" || echo "not away: $(offsite status)"
[[ $(main) = "$main" && $(worker) = "$pid" ]] || echo "died: offsited was started again"
dmesg | grep -m 1 -e 'blocked for more than' -e 'BUG:' -e 'Oops' && echo "kernel: it complains"
echo done
