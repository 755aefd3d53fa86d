#!/usr/bin/env bash
# build.sh BIN [NAME...]: the test binaries that the guest runs, into BIN. They are built here, since
# the guest is slow, and by the profile of all tests, whose dependencies are built already; but what is
# to be compared with others' programs is optimized as theirs are.
set -euo pipefail
bin=$1
shift

# binaries ARGS...: cargo's test binaries, as "name path" lines.
binaries() {
    cargo test --no-run --message-format=json-render-diagnostics "$@" |
        sed -n 's/.*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2/p'
}

# any NAME...: whether one of them is not a measurement.
any() {
    local name
    for name in "$@"; do [[ $name == figures* ]] || return 0; done
    (($# == 0))
}

{
    if [[ " $*" == *" figures"* ]]; then
        binaries --release -p stellate-transport --features rdma,rsockets --test figures
    fi
    if any "$@"; then
        binaries -p stellate-transport --features rdma,rsockets --lib --test contract --test leaks
        binaries -p stellate --features rdma,rsockets --test fabric --test scenarios
    fi
} | while read -r name path; do
    # Debug data is most of it, and the guest reads it over 9p.
    strip --strip-debug -o "$bin/$name" "$path"
done
