#!/usr/bin/env bash
# RDMA on the real kernel stack, on a machine that has none: boots Debian's kernel in QEMU (emulated,
# no KVM) with soft RoCE (rxe) and soft iWARP (siw), and runs the tests in there.
#
#   tests/rdma-guest.sh [NAME...]     all tests, or those named (see rdma-guest/guest.sh)
#
# Run as root on Debian 12: it installs packages and unpacks a kernel, once. The guest's root is this
# machine's own root file system, read-only. The last line is "N passed, N failed"; the exit status
# says the same. A guest that dies early or hangs has failed.
#
# Environment: CARGO_TARGET_DIR; GUEST_SECONDS, the time limit of the guest; GUEST_EACH, that of each
# test; GUEST_KEEP, keep the share with all logs; GUEST_CONNECTS, how many links are made and broken to look for leaks.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
export CARGO_TERM_COLOR=never

here=$PWD/tests/rdma-guest
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cache=$target/rdma-guest
limit=${GUEST_SECONDS:-1200}

# die WHY: the harness itself could not do its work, which is a failure.
die() {
    echo "rdma-guest: $*"
    echo "0 passed, 1 failed"
    exit 1
}

((EUID == 0)) || die "must run as root: it installs packages and reads a kernel"
mkdir -p "$cache" || die "no room under $target"
bash "$here/prepare.sh" "$cache" || die "could not be prepared"

share=$(mktemp -d "$cache/share.XXXXXX") || die "no room under $cache"
if [[ -n ${GUEST_KEEP:-} ]]; then echo "keeping $share"; else trap 'rm -rf "$share"' EXIT; fi
mkdir "$share/bin" "$share/log"
cp "$here/guest.sh" "$here/hosts.sh" "$share/" || die "no guest script"
printf '%s\n' "$@" >"$share/names"
echo "${GUEST_CONNECTS:-120}" >"$share/connects"
echo "${GUEST_EACH:-300}" >"$share/each"
echo "building the tests"
bash "$here/build.sh" "$share/bin" "$@" || die "the tests do not build"

# boot: the guest, until it powers off. KILL, since one that spins does not listen to less; with
# `-no-reboot` it ends when its kernel panics.
boot() {
    timeout --signal=KILL "$limit" qemu-system-x86_64 \
        -M q35 -accel tcg,thread=multi -cpu max -smp 2 -m 3072 -no-reboot \
        -display none -monitor none -nic none -serial "file:$share/console" \
        -kernel "$cache/vmlinuz" -initrd "$cache/initramfs" \
        -append "console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on no_timer_check tsc=reliable clocksource=tsc" \
        -device virtio-rng-pci \
        -fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap \
        -device virtio-9p-pci,fsdev=root,mount_tag=root \
        -fsdev local,id=share,path="$share",security_model=none,multidevs=remap \
        -device virtio-9p-pci,fsdev=share,mount_tag=share \
        </dev/null >"$share/qemu" 2>&1
}
echo "booting $(cat "$cache/release"), at most $limit s"
begin=$SECONDS status=0
{ boot; } 2>/dev/null || status=$?

# The guest writes one line for each test that it began, one for each that ended, and a last one.
touch "$share/began" "$share/results"
passed=$(awk '$1 == "passed" { n += $2 } END { print n + 0 }' "$share/results")
failed=$(awk '$1 == "failed" { n += $2 } END { print n + 0 }' "$share/results")
while read -r name; do
    if ! grep -q " $name\$" "$share/results"; then
        echo "--- $name began and did not end:"
        tail -n 60 "$share/log/$name"
        failed=$((failed + 1))
    fi
done <"$share/began"
while read -r verdict _ name; do
    if [[ $verdict == failed ]]; then
        echo "--- $name failed:"
        tail -n 120 "$share/log/$name"
    fi
done <"$share/results"
cat "$share/report" 2>/dev/null
for name in figures_rxe figures_siw; do
    [[ ! -s $share/log/$name ]] || sed -n "s/.*\(ours\|ib_[a-z_]*\|rstream\): /$name: \1: /p" "$share/log/$name"
done
if ! grep -qx complete "$share/end" 2>/dev/null; then
    ((status == 137)) && echo "the guest hung: it was killed after $limit s"
    echo "the guest did not come to its end (qemu: exit $status); its console says:"
    cat "$share/qemu"
    tail -n 40 "$share/console" 2>/dev/null
    failed=$((failed + 1))
elif ((passed == 0)); then
    echo "the guest ran no test"
    failed=$((failed + 1))
fi
echo "guest: $((SECONDS - begin)) s"
echo "$passed passed, $failed failed"
((failed == 0))
