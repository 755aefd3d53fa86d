#!/bin/bash
# Sourced in the guest: two hosts with rxe, two with siw, a switch between each two.
#
#   rxe0 on ra 10.77.0.1 ═══ port-ra, switch, port-rb ═══ rb 10.77.0.2 under rxe1
#   siw0 on sa 10.78.0.1 ═══ port-sa, switch, port-sb ═══ sb 10.78.0.2 under siw1
#
# The rxe of Linux 6.1 looks up its routes in the first network namespace only, so the hosts cannot be
# namespaces. Instead what one host sends to the other's address is routed over the wire and not
# inside. A cable is pulled at the switch: a packet that rxe would send through a device that is down
# itself breaks the queue pair of the kernel's connection manager for good.

# cabled DEV SWITCH ADDRESS: a host's device, and its cable into the switch.
cabled() {
    ip link add "$1" type veth peer name "port-$1"
    sysctl -qw "net.ipv4.conf.$1.accept_local=1" "net.ipv4.conf.$1.rp_filter=0"
    ip link set "port-$1" master "$2" up
    ip addr add "$3/24" dev "$1"
    ip link set "$1" up
}

# cross DEV FROM TO TABLE: what this machine itself sends to TO leaves through DEV.
cross() {
    ip rule add pref 10 iif lo to "$3" lookup "$4"
    ip route add "$3" dev "$1" src "$2" table "$4"
}

# wire A B NET TABLE: two hosts, NET.1 and NET.2.
wire() {
    ip link add "switch-$4" type bridge
    # It carries, and answers for nobody.
    ip link set "switch-$4" arp off up
    cabled "$1" "switch-$4" "$3.1"
    cabled "$2" "switch-$4" "$3.2"
    cross "$1" "$3.1" "$3.2" "$4"
    cross "$2" "$3.2" "$3.1" "$(($4 + 1))"
}

# hosts: lays out all of it.
hosts() {
    ip link set lo up
    # A READ of much is answered at once, whole.
    sysctl -qw net.ipv4.conf.all.rp_filter=0 net.core.netdev_max_backlog=10000
    # The table of local addresses is asked first of all; it has to come after ours.
    ip rule add pref 20 lookup local
    ip rule del pref 0
    wire ra rb 10.77.0 100
    wire sa sb 10.78.0 200
    local dev
    for dev in ra rb sa sb; do add "$dev"; done
}

# down DEV, up DEV: the cable of a host out of the switch, and in again.
down() {
    ip link set "port-$1" down
}
up() {
    ip link set "port-$1" up
}

# remove DEV, add DEV: the RDMA device on it gone, and there again.
remove() {
    rdma link delete "$(device_on "$1")"
}
add() {
    local name
    name=$(device_on "$1")
    rdma link add "$name" type "${name%?}" netdev "$1"
}
device_on() {
    case $1 in
    ra) echo rxe0 ;;
    rb) echo rxe1 ;;
    sa) echo siw0 ;;
    sb) echo siw1 ;;
    esac
}
