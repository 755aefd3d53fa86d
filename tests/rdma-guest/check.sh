#!/usr/bin/env bash
# The harness itself: it must notice a test that fails, a name that is no test, a filter that no test
# passes, a guest that panics and one that hangs. The last line is "N passed, N failed".
set -uo pipefail
harness=$(dirname "$(realpath "$0")")/../rdma-guest.sh
passed=0 failed=0

# notices SECONDS SUM WORDS NAME...: the harness fails when it runs these, with a last line and words like these.
notices() {
    local log
    if log=$(GUEST_SECONDS=$1 bash "$harness" "${@:4}" 2>&1) ||
        ! grep -q "$3" <<<"$log" || ! tail -n 1 <<<"$log" | grep -qx "$2"; then
        echo "--- not noticed: ${*:4}"
        echo "$log"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}

notices 600 "1 passed, 3 failed" "it ran no test" rping_siw fails absent runs_none
notices 600 "1 passed, 2 failed" "did not come to its end" rping_siw panics
# A slow machine kills it before it has begun.
notices 90 "0 passed, [12] failed" "the guest hung" hangs
echo "$passed passed, $failed failed"
((failed == 0))
