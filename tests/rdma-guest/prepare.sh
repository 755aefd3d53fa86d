#!/usr/bin/env bash
# prepare.sh CACHE: packages, the kernel with its modules, siw, and the initramfs. What is there
# already stays; the second run takes a second.
set -euo pipefail
cache=$1
here=$(dirname "$(realpath "$0")")

packages=(
    qemu-system-x86 busybox-static cpio kmod iproute2 xz-utils util-linux procps # the guest
    rdma-core libibverbs-dev librdmacm-dev ibverbs-providers ibverbs-utils       # its stack
    rdmacm-utils perftest                                                        # what it is measured by
    gcc-12 make libc6-dev libclang-14-dev clang-14 pkg-config                    # the binding, and siw
)

# Needed by the guest before it can see this machine's files, or to lay out its hosts; rxe says
# "failed to add" without crc32_generic.
modules=(
    crc32_generic crc32c_generic libcrc32c virtio_pci virtio_rng 9pnet_virtio 9p dummy veth bridge
    rdma_rxe rdma_ucm ib_uverbs iw_cm
)

# install_packages NAME...: those that are missing.
install_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    ((${#missing[@]} == 0)) && return
    echo "installing ${missing[*]}"
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
}

# fetch PACKAGE: its .deb into the directory we are in.
fetch() {
    apt-get download -q -o APT::Sandbox::User=root "$1" >/dev/null
}

# The kernel is unpacked and never installed: this machine is to go on booting its own.
unpack_kernel() {
    local release=$1 scratch=$2
    (cd "$scratch" && fetch "linux-image-$release" && dpkg -x linux-image-*.deb kernel)
    depmod -b "$scratch/kernel" "$release"
    cp "$scratch/kernel/boot/vmlinuz-$release" "$scratch/vmlinuz"
}

# Debian's kernel is built without siw; its source comes with the kernel's.
build_siw() {
    local release=$1 scratch=$2
    [[ -f $cache/siw-$release.ko ]] && return
    install_packages "linux-headers-$release"
    mkdir "$scratch/siw"
    (
        cd "$scratch" && fetch linux-source-6.1 && dpkg --fsys-tarfile linux-source-6.1*.deb |
            tar -xO ./usr/src/linux-source-6.1.tar.xz | xz -dc |
            tar -x -C siw --strip-components=5 linux-source-6.1/drivers/infiniband/sw/siw
        rm linux-source-6.1*.deb
    )
    printf '%s\n' 'obj-m := siw.o' \
        'siw-y := siw_cm.o siw_cq.o siw_main.o siw_mem.o siw_qp.o siw_qp_tx.o siw_qp_rx.o siw_verbs.o' \
        >"$scratch/siw/Makefile"
    make -s -C "/usr/src/linux-headers-$release" "M=$scratch/siw" modules >"$scratch/siw.log" 2>&1 ||
        { cat "$scratch/siw.log"; return 1; }
    strip --strip-debug -o "$cache/siw-$release.ko" "$scratch/siw/siw.ko"
}

# An init, busybox, and the modules in the order in which they go in.
pack_initramfs() {
    local release=$1 scratch=$2 root=$2/initramfs.d module
    mkdir -p "$root/bin" "$root/modules" "$root/proc" "$root/sys" "$root/dev" "$root/new"
    cp /bin/busybox "$root/bin/busybox"
    cp "$here/init" "$root/init"
    chmod +x "$root/init"
    for module in "${modules[@]}"; do
        modprobe -d "$scratch/kernel" -S "$release" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$scratch/order"
    while read -r module; do
        cp "$module" "$root/modules/"
        basename "$module"
    done <"$scratch/order" >"$root/modules/order"
    cp "$cache/siw-$release.ko" "$root/modules/siw.ko"
    echo siw.ko >>"$root/modules/order"
    (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$scratch/initramfs"
}

install_packages "${packages[@]}"
newest() { apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: linux-image-\(.*\)/\1/p;T;q'; }
release=$(newest || true)
# Lists that are not there, or that were just being replaced.
[[ -n $release && -f $cache/release ]] || { apt-get update -q >/dev/null && release=$(newest || true); }
[[ -n $release ]] || { echo "no linux-image-amd64 in the package lists"; exit 1; }
# A new kernel, or a change here, makes all of it anew.
key="$release $(cat "$here/prepare.sh" "$here/init" | sha256sum | cut -c 1-16)"
[[ $(cat "$cache/key" 2>/dev/null) == "$key" ]] && exit 0

echo "preparing Linux $release"
scratch=$(mktemp -d "$cache/scratch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
unpack_kernel "$release" "$scratch"
build_siw "$release" "$scratch"
pack_initramfs "$release" "$scratch"
mv "$scratch/vmlinuz" "$scratch/initramfs" "$cache/"
echo "$release" >"$cache/release"
echo "$key" >"$cache/key"
