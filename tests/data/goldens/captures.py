#!/usr/bin/env python3
"""Makes captures.csv: per capture, packets, IP packets and IP bytes as tshark sees them.

    captures.py FOLDER_OF_CAPTURES... > captures.csv

A packet counts for its innermost IP header that is reached through links and tunnels alone (so not through the packet
that an ICMP error quotes). Bytes are the total length of IPv4, and 40 plus the payload length (or the jumbo payload
length) of IPv6. Where a length is 0, the length on the wire less what precedes the header stands in for it; tshark
reports its own substitute there. Made with tshark 4.0.17 (Debian 12).
"""
import os
import subprocess
import sys

# Layers that an IP header may lie behind.
PASSED = {
    "eth", "ethertype", "vlan", "ieee8021ad", "mpls", "pppoes", "ppp", "sll", "null", "raw", "llc", "chdlc", "pwethheuristic",
    "pwethcw", "pwethnocw", "gre", "erspan", "vxlan", "geneve", "udp", "ip", "ipv6", "ah", "etherip", "loop",
}
OPTIONS = [
    "ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE", "vxlan.udp.port:4789,8472",
]
FIELDS = ["frame.protocols", "ip.len", "ipv6.plen", "ipv6.opt.jumbo"]


def measure(path):
    command = ["tshark", "-n", "-r", path, "-T", "fields", "-E", "separator=|", "-E", "occurrence=a"]
    for option in OPTIONS:
        command += ["-o", option]
    for field in FIELDS:
        command += ["-e", field]
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace").stdout
    packets = ip_packets = ip_bytes = 0
    for number, line in enumerate(output.splitlines(), 1):
        packets += 1
        layers, *numbers = line.split("|")
        lengths, payloads, jumbos = ([int(n) for n in field.split(",") if n] for field in numbers)
        found = None
        seen = {"ip": 0, "ipv6": 0}
        for layer in layers.split(":"):
            if layer in seen:
                known = lengths if layer == "ip" else payloads
                if seen[layer] < len(known):
                    length = known[seen[layer]]
                    if layer == "ipv6":
                        length = 40 + (jumbos[0] if length == 0 and jumbos else length)
                    found = length
                seen[layer] += 1
            elif layer not in PASSED and not layer.startswith("ipv6."):
                break
        if found is not None:
            ip_packets += 1
            ip_bytes += found
        if os.environ.get("SHOW_PACKETS"):
            print(path, number, found, layers, *numbers, file=sys.stderr)
    return packets, ip_packets, ip_bytes


def main():
    print("file,packets_total,ip_packets,ip_bytes")
    for folder in sys.argv[1:]:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name != "LICENSE":
                print(f"{os.path.basename(os.path.normpath(folder))}/{name}", *measure(path), sep=",")


if __name__ == "__main__":
    main()
