#!/usr/bin/env bash
# Records the small cases of this folder: real traffic of real programs between two network namespaces, and the same
# capture as real exporters report it. Needs root on Debian and:
#   apt-get install iproute2 ethtool tcpdump tshark softflowd pmacct dnsmasq-base bind9-dnsutils curl iperf3 iputils-ping python3
# Every run records new traffic, so a new run also means a new recorded.csv; README.md says what is in it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

client=spkw-client server=spkw-server export=spkw-export
work=$(mktemp -d)
jobs=()

clean() {
    for job in "${jobs[@]}"; do kill "$job" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for name in $client $server $export; do ip netns del "$name" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean EXIT

at() { ip netns exec "$@"; }
start() { # start NAMESPACE PROGRAM…: in the background, ended by clean
    ip netns exec "$@" >/dev/null 2>&1 & # not `at`: the job must be the program itself
    jobs+=($!)
}
record() { # record NAMESPACE INTERFACE FILE FILTER: returns once the capture runs
    : >"$work/tcpdump.log"
    ip netns exec "$1" tcpdump -Z root -i "$2" -s "$snaplen" -U -w "$3" "$4" 2>"$work/tcpdump.log" &
    recorder=$!
    jobs+=("$recorder")
    until grep -q 'listening on' "$work/tcpdump.log"; do sleep 0.05; done
}
recorded() {
    sleep 1 # what is still in the kernel's buffer
    kill -TERM "$recorder"
    wait "$recorder" || true
}

# Two ends of one wire. The server also has an address of the outside world (TEST-NET-2), and IPv6.
for name in $client $server $export; do
    ip netns add "$name"
    ip -n "$name" link set lo up
done
ip link add eth0 netns $client type veth peer name eth0 netns $server
ip -n $client addr add 10.83.0.1/24 dev eth0
ip -n $client addr add fd83::1/64 dev eth0 nodad
ip -n $server addr add 10.83.0.2/24 dev eth0
ip -n $server addr add 198.51.100.7/32 dev eth0
ip -n $server addr add fd83::2/64 dev eth0 nodad
for name in $client $server; do
    at "$name" ethtool -K eth0 tso off gso off gro off >/dev/null # packets as they would be on a wire
    ip -n "$name" link set eth0 up
done
ip -n $client route add 198.51.100.0/24 via 10.83.0.2

mkdir "$work/www"
head -c 1000 /dev/zero >"$work/www/small"
head -c 150000 /dev/zero >"$work/www/large"
start $server python3 -m http.server 80 --bind :: --directory "$work/www"
start $server dnsmasq --keep-in-foreground --no-resolv --no-hosts --port 53 --user=root --pid-file= \
    --address=/example.test/198.51.100.7 --address=/example.test/fd83::2
start $server iperf3 -s
until at $client curl -sfo /dev/null http://10.83.0.2/small && at $client dig +short @10.83.0.2 a.example.test >/dev/null &&
    at $server ss -Hltn sport = :5201 | grep -q 5201; do sleep 0.1; done

snaplen=128 # every header, and a small file
record $server eth0 recorded.pcap 'ip or ip6'
for n in $(seq 10); do
    at $client dig +short @10.83.0.2 "host$n.example.test" A >/dev/null
    at $client dig +short @fd83::2 "host$n.example.test" AAAA >/dev/null
done
for n in $(seq 5); do at $client curl -sfo /dev/null "http://198.51.100.7/small?$n"; done
at $client curl -sfo /dev/null http://198.51.100.7/large
at $client curl -sfo /dev/null 'http://[fd83::2]/small'
at $client curl -sfo /dev/null 'http://[fd83::2]/large'
at $client curl -so /dev/null http://10.83.0.2:81/ || true      # refused: SYN, RST
at $client dig +tries=1 +timeout=1 -p 5353 @10.83.0.2 x >/dev/null || true # refused: ICMP port unreachable
at $client ping -q -c 5 -i 0.2 198.51.100.7 >/dev/null
at $client ping -q -c 3 -i 0.2 fd83::2 >/dev/null
at $client iperf3 -c 10.83.0.2 -n 100K >/dev/null
at $client iperf3 -c 10.83.0.2 -u -b 2M -l 1000 -n 60K >/dev/null
recorded

# The same capture as exporters tell it, in full datagrams.
snaplen=0
# They need somebody who listens, or their sends fail.
cat >"$work/sink.py" <<'PYTHON'
import socket
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(("127.0.0.1", 2055))
while True:
    sink.recv(65535)
PYTHON
start $export python3 "$work/sink.py"
sleep 0.5

softflow() { # softflow FILE VERSION [OPTION…]
    local file=$1 version=$2
    shift 2
    record $export lo "$file" 'udp dst port 2055'
    # No control socket: with one, softflowd 1.1.0 waits for a client before it reads.
    timeout 20 ip netns exec $export softflowd -d -a -6 -r recorded.pcap -n 127.0.0.1:2055 -v "$version" \
        -p "$work/softflowd.pid" -c none "$@" >/dev/null 2>&1
    recorded
}
softflow recorded_netflow5.pcap 5
softflow recorded_netflow9.pcap 9
softflow recorded_ipfix.pcap 10
softflow recorded_ipfix_biflow.pcap 10 -b -A milli

sflow() { # sflow FILE RATE
    cat >"$work/pmacctd.conf" <<CONF
pcap_savefile: $PWD/recorded.pcap
pcap_savefile_wait: 5
snaplen: 128
plugins: sfprobe
sfprobe_receiver: 127.0.0.1:2055
sfprobe_agentip: 10.83.0.2
sampling_rate: $2
CONF
    record $export lo "$1" 'udp dst port 2055'
    timeout 15 ip netns exec $export pmacctd -f "$work/pmacctd.conf" >/dev/null 2>&1 || true
    recorded
}
sflow recorded_sflow.pcap 1

./expected.sh >recorded.csv
