#!/bin/bash
# Sourced in the guest: two hosts with rxe, two with siw.
#
#   rxe0 on ra 10.77.0.1 ═══ veth ═══ rb 10.77.0.2 under rxe1
#   siw0 on sa 10.78.0.1 ═══ veth ═══ sb 10.78.0.2 under siw1
#
# The rxe of Linux 6.1 looks up its routes in the first network namespace only, so the hosts cannot be
# namespaces. Instead what one end sends to the other's address is routed over the wire and not
# inside: taking an end down is then a fault that both see.

# wire A B NET: a veth pair, and NET.1 and NET.2 reached over it.
wire() {
    local a=$1 b=$2 net=$3 end
    ip link add "$a" type veth peer name "$b"
    for end in "$a" "$b"; do
        sysctl -qw "net.ipv4.conf.$end.accept_local=1" "net.ipv4.conf.$end.rp_filter=0"
        ip link set "$end" up
    done
    ip addr add "$net.1/24" dev "$a"
    ip addr add "$net.2/24" dev "$b"
    cross "$a" "$net.1" "$net.2"
    cross "$b" "$net.2" "$net.1"
}

# cross DEV FROM TO: what this machine itself sends to TO leaves through DEV. The rule stays when the
# device goes down, and the route has to be laid again when it is back.
cross() {
    local dev=$1 from=$2 to=$3 table=1${3##*.}${3:3:2}
    ip rule show | grep -q "to $to " || ip rule add pref 10 iif lo to "$to" lookup "$table"
    ip route replace "$to" dev "$dev" src "$from" table "$table"
}

# hosts: lays out all of it.
hosts() {
    ip link set lo up
    sysctl -qw net.ipv4.conf.all.rp_filter=0
    # The table of local addresses is asked first of all; it has to come after ours.
    ip rule add pref 20 lookup local
    ip rule del pref 0
    wire ra rb 10.77.0
    wire sa sb 10.78.0
    rdma link add rxe0 type rxe netdev ra
    rdma link add rxe1 type rxe netdev rb
    rdma link add siw0 type siw netdev sa
    rdma link add siw1 type siw netdev sb
}

# down DEV, up DEV: the cable out, and in again.
down() {
    ip link set "$1" down
}
up() {
    ip link set "$1" up
    case $1 in
    ra) cross ra 10.77.0.1 10.77.0.2 ;;
    rb) cross rb 10.77.0.2 10.77.0.1 ;;
    sa) cross sa 10.78.0.1 10.78.0.2 ;;
    sb) cross sb 10.78.0.2 10.78.0.1 ;;
    esac
}
