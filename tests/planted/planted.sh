#!/usr/bin/env bash
# Plants bugs in a copy of the tree, one a run, and says after how many seeds `stellate sim` finds each.
# Usage: planted.sh [BUG...]     all of them if none is named; prints the rows of PLANTED.md
# SEEDS=2000 is how many are tried: with everything that may go wrong, and where that finds nothing,
# without faults. The copy and its build stay in target/planted.
set -euo pipefail
cd "$(dirname "$0")/../.."

seeds=${SEEDS:-2000}
work=$PWD/target/planted
tree=$work/tree
mkdir -p "$tree"

# Only what differs is copied, so that only that is built again.
git ls-files -co --exclude-standard | while read -r file; do
    [[ -e $file ]] || continue
    cmp -s "$file" "$work/original/$file" || {
        mkdir -p "$(dirname "$work/original/$file")" "$(dirname "$tree/$file")"
        cp "$file" "$work/original/$file"
        cp "$file" "$tree/$file"
    }
done
cut -d' ' -f2 <<<"$(grep '^+++ ' tests/planted/planted.patch)" | cut -d/ -f2- | while read -r file; do
    cp "$work/original/$file" "$work/planting"
    mkdir -p "$work/patched/$(dirname "$file")"
    awk -v file="b/$file" '/^--- /{held=$0; next} /^\+\+\+ /{on=($2==file); if(on) print held} on' \
        tests/planted/planted.patch | patch -s "$work/planting" || {
        echo "the code has changed: $file of planted.patch does not apply" >&2
        exit 1
    }
    cmp -s "$work/planting" "$tree/$file" || cp "$work/planting" "$tree/$file"
done

# Which profile changes nothing that is measured here, only how long the build takes.
export CARGO_TARGET_DIR=$work/target CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_INCREMENTAL=true
export CARGO_PROFILE_RELEASE_OPT_LEVEL=2
# Its own assertions notice some before a checker does.
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
(cd "$tree" && cargo build -q --release --features cli --bin stellate)
sim() {
    PLANTED=$1 "$CARGO_TARGET_DIR/release/stellate" sim --json --shrink 0 --cases "$work" \
        --seeds "$2..$3" --faults "$4" 2>/dev/null || true
}

mapfile -t all < <(grep -o 'planted("[a-z_]*")' tests/planted/planted.patch | cut -d'"' -f2 | sort -u)
[[ $# -gt 0 ]] && all=("$@")
missed=0
for bug in "${all[@]}"; do
    found=""
    for mix in everything calm; do
        from=0
        for to in 4 16 64 256 1024 "$seeds"; do
            ((from < seeds)) || break
            ((to > seeds)) && to=$seeds
            said=$(sim "$bug" "$from" "$to" "$mix")
            of=$([[ $mix == everything ]] || echo " of \`$mix\`")
            found=$(jq -r --arg of "$of" '.failures[0] | select(.) | "\(.seed + 1)\($of) | \(.invariant)"' <<<"$said")
            [[ -n $said ]] || found="$from$of | aborted"
            rm -f "$work"/sim-*.json
            [[ -z $found ]] || break 2
            from=$to
        done
    done
    [[ -n $found ]] || { found="not in $seeds | " missed=1; }
    echo "| \`$bug\` | $found |"
done
exit $missed
