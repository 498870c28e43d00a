#!/bin/sh
# A CNI plugin for tests: one veth pair a pod, routed. Addresses are counted in a file; each call is
# noted in another. "refusals" says how often ADD asks to be tried again; "broken" makes it fail.
set -eu
cd "$(dirname "$0")"
cat >/dev/null
echo "$CNI_COMMAND $CNI_CONTAINERID" >>calls
link="t$(echo "$CNI_CONTAINERID" | cut -c1-10)"
fail() {
    echo "{\"cniVersion\":\"1.1.0\",\"code\":$1,\"msg\":\"$2\"}"
    exit 1
}
case "$CNI_COMMAND" in
ADD)
    if [ -e broken ]; then fail 100 "no address is left"; fi
    left=$(cat refusals 2>/dev/null || echo 0)
    if [ "$left" -gt 0 ]; then
        echo $((left - 1)) >refusals
        fail 11 "policy is not loaded yet"
    fi
    exec 9>lock
    flock 9
    number=$(($(cat counter 2>/dev/null || echo 1) + 1))
    echo "$number" >counter
    address="10.244.1.$number"
    ip link add "$link" type veth peer name eth0 netns "$CNI_NETNS"
    ip address add 169.254.1.1/32 dev "$link"
    ip link set "$link" up
    nsenter --net="$CNI_NETNS" sh -ec "
        ip address add $address/32 dev eth0
        ip link set eth0 up
        ip route add 169.254.1.1 dev eth0
        ip route add default via 169.254.1.1"
    ip route add "$address" dev "$link" src 10.240.0.11
    echo "{\"cniVersion\":\"1.1.0\",\"interfaces\":[],\"ips\":[{\"address\":\"$address/32\"}],\"routes\":[],\"dns\":{}}"
    ;;
DEL)
    ip link delete "$link" 2>/dev/null || true
    ;;
esac
