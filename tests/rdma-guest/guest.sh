#!/bin/bash
# Runs in the guest: lays out the hosts, runs the tests, writes what became of them to the share.
# Each function test_NAME is a test; its output is kept in log/NAME, and shown if it fails.
set -uo pipefail
share=/mnt
# shellcheck source=tests/rdma-guest/hosts.sh
. "$share/hosts.sh"

# Seconds that one test may take. Emulation is ten to thirty times slower.
each=$(<"$share/each")
# How many times a link is made and broken, as the host says.
connects=$(<"$share/connects")
# Seconds that sessions are loaded while the fabric fails under them.
soak=30

# serve NAME COMMAND...: a server in the background, ended when the test is.
serve() {
    local name=$1
    shift
    "$@" >"/tmp/$name" 2>&1 &
    servers+=($!)
}

# listens PATTERN: waits until rdma_cm has a listener in that state.
listens() {
    local _
    for _ in $(seq 100); do
        rdma resource show cm_id 2>/dev/null | grep -q "$1" && return
        sleep 0.1
    done
    echo "nobody listens: $1"
    return 1
}

# Its exit status says nothing: what it read back does.
rping_over() {
    local data
    serve rping rping -s -a "$1" -p 7174 -S 1000
    listens "7174" || return
    data=$(timeout 60 rping -c -a "$1" -p 7174 -C 20 -S 1000 -v 2>&1 | grep -c "ping data: rdma-ping")
    echo "$data of 20 pings"
    ((data == 20))
}
test_rping_rxe() { rping_over 10.77.0.2; }
test_rping_siw() { rping_over 10.78.0.2; }

# The cable itself: what works before it is pulled works after, also when somebody dialled meanwhile.
cable_of() {
    local counter=/sys/class/net/$1/statistics/rx_packets before
    before=$(<"$counter")
    rping_over "$2" || return
    (($(<"$counter") > before + 40)) || { echo "it went another way" && return 1; }
    kill "${servers[@]}" 2>/dev/null
    down "$1"
    timeout 3 rping -c -a "$2" -p 7174 -C 1 && { echo "it is still in" && return 1; }
    up "$1"
    rping_over "$2" || { ip rule && ip route show table all && rdma link show && return 1; }
}
test_cable_rxe() { cable_of rb 10.77.0.2; }
test_cable_siw() { cable_of sb 10.78.0.2; }

send_lat_over() {
    serve ib_send_lat ib_send_lat -R -d "$2" -n 500 -s 64 -p 7175
    listens "7175" && ib_send_lat -R -d "$1" -n 500 -s 64 -p 7175 "$3" | tail -n 4
}
test_send_lat_rxe() { send_lat_over rxe0 rxe1 10.77.0.2; }
test_send_lat_siw() { send_lat_over siw0 siw1 10.78.0.2; }

# rust BINARY ARGS...: tests of ours; one after the other, as a guest has few devices and two slow cores.
rust() {
    local binary=$1
    shift
    RUST_BACKTRACE=1 "$share/bin/$binary" --test-threads 1 "$@" | some
}

# some: passes on what a Rust test binary says; false if it ran no test, as its names have changed.
some() {
    awk '{ print; fflush() } /^test result:/ { ran += $4 + $6 } END { if (!ran) print "it ran no test"; exit !ran }'
}
binding_over() { STELLATE_RDMA=$1 rust stellate_transport --ignored rdma::sys; }
test_binding_rxe() { binding_over 10.77.0.2; }
test_binding_siw() { binding_over 10.78.0.2; }

contract_over() { STELLATE_RDMA=$1 rust contract --ignored "$2"; }
test_contract_rxe() { contract_over 10.77.0.2 rdma; }
test_contract_siw() { contract_over 10.78.0.2 rdma; }
test_contract_rsockets_rxe() { contract_over 10.77.0.2 rsockets; }
test_contract_rsockets_siw() { contract_over 10.78.0.2 rsockets; }

# F8 after many connects, and faults.
leaks_over() { STELLATE_CONNECTS=$connects STELLATE_RDMA=$1 rust leaks --ignored --nocapture many; }
test_leaks_rxe() { leaks_over 10.77.0.2; }
test_leaks_siw() { leaks_over 10.78.0.2; }

# Links beside the tools of rdma-core, by name. Reported, not judged: only that all came to an end.
figures_over() {
    serve ib_send_lat ib_send_lat -R -d "$2" -n 1000 -s 64 -p 7176
    listens 7176 && ib_send_lat -R -d "$1" -n 1000 -s 64 -p 7176 "$3" | awk '$1 == 64 { print "ib_send_lat: 64 B one way", $5, "us, doubled", 2 * $5 }'
    local size
    for size in 65536 1048576; do
        serve ib_read_bw ib_read_bw -R -d "$2" -n "$((3276800 / size + 17))" -s "$size" -p 7177
        listens 7177 && ib_read_bw -R -d "$1" -n "$((3276800 / size + 17))" -s "$size" -p 7177 "$3" | awk -v size="$size" '$1 == size { print "ib_read_bw:", size / 1024, "KiB", $4, "MiB/s" }'
        kill "${servers[-1]}" 2>/dev/null
    done
    serve rstream rstream -b "$3" -p 7178 -S 64 -C 1 -I 500
    listens 7178 && rstream -s "$3" -p 7178 -S 64 -C 1 -I 500 | awk '$2 == "64" { print "rstream: 64 B one way", $NF, "us, doubled", 2 * $NF }'
    STELLATE_RDMA=$3 rust figures --ignored --nocapture | tee "/tmp/figures-$1"
    (($(grep -c 'ours: ' "/tmp/figures-$1") == 5))
}
check_figures_rxe() { figures_over rxe0 rxe1 10.77.0.2; }
check_figures_siw() { figures_over siw0 siw1 10.78.0.2; }

# Calls of the kernel that small messages need, where strace is installed.
calls_over() {
    STELLATE_RDMA=$1 strace -f -ttt -o "$share/log/calls" "$share/bin/figures" --ignored --exact --nocapture "$2"
    grep -o '[a-z_0-9]*(' "$share/log/calls" | sort | uniq -c | sort -rn | head -n 20
}
check_figures_calls_rxe() { calls_over 10.77.0.2 a_small_round_trip; }
check_figures_calls_siw() { calls_over 10.78.0.2 a_small_round_trip; }

# Sessions: the address to listen at, and the cable under it.
fabric_over() {
    STELLATE_FABRIC=$1 STELLATE_CABLE=$2 STELLATE_SOAK=$soak STELLATE_HOSTS=$share/hosts.sh \
        rust fabric --ignored --nocapture --skip peer:: --skip refusals:: "${@:3}"
}
test_fabric_rxe() { fabric_over rdma://10.77.0.2:0 rb --skip soak:: --skip removal::; }
test_fabric_siw() { fabric_over rdma://10.78.0.2:0 sb --skip soak:: --skip removal::; }

# A soak of faults under a session that is loaded both ways.
test_soak_rxe() { fabric_over rdma://10.77.0.2:0 rb soak; }
test_soak_siw() { fabric_over rdma://10.78.0.2:0 sb soak; }

# again DEV: the device on it is added once it is gone, which it is at the latest when no process has it.
again() {
    local _
    for _ in $(seq 100); do
        rdma link show | grep -q "$(device_on "$1")/" || break
        sleep 0.1
    done
    add "$1"
}
# A device is removed under a session, and under a link; it works when it is added again.
removal_over() {
    local wrong=0
    fabric_over "$1" "$2" removal || wrong=1
    again "$2" || wrong=1
    STELLATE_RDMA=$3 STELLATE_REMOVE=". $share/hosts.sh; remove $2" rust leaks --ignored --nocapture removed || wrong=1
    again "$2" && ((wrong == 0)) && rping_over "$3"
}
test_removal_rxe() { removal_over rdma://10.77.0.2:0 rb 10.77.0.2; }
test_removal_siw() { removal_over rdma://10.78.0.2:0 sb 10.78.0.2; }

# The session scenarios, between two hosts: each named row; by name, faults of every policy pair.
scenarios_over() { STELLATE_HOSTS_AT="$1 $2" rust scenarios --ignored --nocapture "$3"; }
test_scenarios_rxe() { scenarios_over rdma://10.77.0.1:0 rdma://10.77.0.2:0 each_row_holds_on_a_real_fabric; }
test_scenarios_siw() { scenarios_over rdma://10.78.0.1:0 rdma://10.78.0.2:0 each_row_holds_on_a_real_fabric; }
check_scenarios_pairs_rxe() { scenarios_over rdma://10.77.0.1:0 rdma://10.77.0.2:0 every_pair; }
check_scenarios_pairs_siw() { scenarios_over rdma://10.78.0.1:0 rdma://10.78.0.2:0 every_pair; }

# What is said where something is missing. Nobody is a user without privileges.
says() {
    local words=$1
    shift
    STELLATE_FABRIC=rdma://10.77.0.2:0 STELLATE_EXPECT=$words "$@" "$share/bin/fabric" --exact \
        refusals::an_error_says_what_and_what_to_do --ignored --nocapture | some
}
nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
# The whole test is one shell, so what is taken away is given back whatever was said.
test_refusals() {
    local wrong=0
    (ulimit -l 64 && says "ulimit -l" nobody) || wrong=1
    says "rdma link" env STELLATE_FABRIC=rdma://192.0.2.1:0 || wrong=1
    chmod 600 /dev/infiniband/rdma_cm
    says "/dev/infiniband" nobody || wrong=1
    chmod 666 /dev/infiniband/rdma_cm
    local dev
    for dev in ra rb sa sb; do remove "$dev"; done
    says "rdma link add" || wrong=1
    rmmod rdma_ucm
    says "modprobe rdma_ucm" || wrong=1
    insmod /run/modules/rdma_ucm.ko
    for dev in ra rb sa sb; do add "$dev"; done
    ((wrong == 0)) && rping_over 10.77.0.2
}

# By name only: for the harness's own check, and what is not to be relied on yet.
check_fails() { false; }
check_runs_none() { rust stellate_transport no_test_has_this_name; }
check_panics() { echo c >/proc/sysrq-trigger; sleep 60; }
# Whoever would end the test, and the guest, stands still.
check_hangs() { kill -STOP "$GUEST_MAIN"; sleep infinity; }

# The shell that runs the tests, as its tests know it.
export GUEST_MAIN=${GUEST_MAIN:-$$}

# run NAME: one test, in a session of its own, of which nothing is left behind.
run() {
    local name=$1 status=0
    echo "$name" >>"$share/began"
    sync
    setsid --wait timeout --kill-after=5 "$each" bash "$share/guest.sh" "$name" >"$share/log/$name" 2>&1 || status=$?
    ((status != 124 && status != 137)) || echo "took more than $each s" >>"$share/log/$name"
    count "$name" "$status"
}

# one NAME: the process of that test.
one() {
    local status=0 servers=()
    ulimit -l unlimited
    if declare -F "test_$1" >/dev/null; then
        "test_$1" || status=$?
    elif declare -F "check_$1" >/dev/null; then
        "check_$1" || status=$?
    else
        echo "no such test" && status=1
    fi
    ((${#servers[@]} == 0)) || kill "${servers[@]}" 2>/dev/null
    return "$status"
}

# count NAME STATUS: a Rust test binary says how many tests it had; anything else is one.
count() {
    local name=$1 status=$2 passed failed
    passed=$(sum "$name" passed)
    failed=$(sum "$name" failed)
    if ((passed + failed == 0)); then
        if ((status == 0)); then passed=1; else failed=1; fi
    elif ((status != 0 && failed == 0)); then
        failed=1
    fi
    ((passed == 0)) || echo "passed $passed $name" >>"$share/results"
    ((failed == 0)) || echo "failed $failed $name" >>"$share/results"
    echo "$name: $passed passed, $failed failed, at $(cut -d ' ' -f 1 /proc/uptime) s" >>"$share/report"
}

sum() {
    sed -n "s/^test result:.* \([0-9][0-9]*\) $2;.*/\1/p" "$share/log/$1" | awk '{ n += $1 } END { print n + 0 }'
}

main() {
    local names name
    hosts
    rdma link show
    mapfile -t names < <(grep . "$share/names")
    if ((${#names[@]} == 0)); then
        mapfile -t names < <(compgen -A function test_ | sed 's/^test_//')
    fi
    for name in "${names[@]}"; do
        run "$name"
    done
    echo complete >"$share/end"
    sync
}

if (($# > 0)); then
    one "$1"
else
    main >>"$share/log/guest" 2>&1
fi
