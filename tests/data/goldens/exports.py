#!/usr/bin/env python3
"""Makes exports.csv: what tshark finds in export datagrams, as the independent check of our decoder.

    exports.py DATA > exports.csv

DATA holds netflow-datagrams/ (github.com/logstash-plugins/logstash-codec-netflow, spec/codecs) and telegraf-datagrams/
(github.com/influxdata/telegraf, plugins/inputs/netflow/testcases). Needs tshark (Debian package of that name).

Each case is one exporter: its datagrams are put into UDP packets from one address, templates first, and dissected together.
One row a file: flow records, their bytes and packets, multiplied by the sampling that headers and options tell; for sFlow,
the samples of IP packets instead of records. A flow record has two addresses and a counter or a firewall event.
"""
import csv
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

BYTES = ["cflow.initiator_octets", "cflow.octets", "cflow.octets_out", "cflow.post_octets", "cflow.permanent_octets"]
PACKETS = ["cflow.initiator_packets", "cflow.packets", "cflow.packets_out", "cflow.post_packets", "cflow.permanent_packets"]
BYTES_BACK = ["cflow.responder_octets"]
PACKETS_BACK = ["cflow.responder_packets"]


def datagrams(data):
    """A file's datagrams: NetFlow v5 by its count, IPFIX by its length, else the whole."""
    version, number = struct.unpack_from(">HH", data)
    length = {5: 24 + 48 * number, 10: number}.get(version, len(data))
    if not 0 < length < len(data) or data[length:length + 2] != data[:2]:
        return [data]
    return [data[:length], *datagrams(data[length:])]


def capture(payloads):
    """A pcap file (raw IP) with each payload in a UDP packet to its format's port."""
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)
    for number, payload in enumerate(payloads):
        port = 6343 if payload[:4] == b"\0\0\0\5" else 4739 if payload[:2] == b"\0\x0a" else 2055
        udp = struct.pack(">HHHH", 40000, port, 8 + len(payload), 0) + payload
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0)
        packet = head + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + udp
        out += struct.pack("<IIII", 1_700_000_000 + number, 0, len(packet), len(packet)) + packet
    return out


def dissect(payloads):
    """tshark's tree of each packet."""
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        file.write(capture(payloads))
        file.flush()
        command = ["tshark", "-n", "-r", file.name, "-T", "pdml"]
        return xml.fromstring(subprocess.run(command, check=True, capture_output=True).stdout).findall("packet")


def number(node, names, back=False):
    """The first of the named fields that is in the tree and not zero; of reverse fields (RFC 5103) if `back`."""
    for name in names:
        for field in node.iter("field"):
            if field.get("name") != name or ("(Reverse Type" in field.get("showname")) != back:
                continue
            if field.get("value") and int(field.get("value"), 16):
                return int(field.get("value"), 16)
    return 0


def names(node):
    return {field.get("name") for field in node.iter("field")}


def flows(packet, state):
    """(records, bytes, packets) of a NetFlow or IPFIX packet."""
    total = [0, 0, 0]
    rate = number(packet, ["cflow.samplerate"])
    for node in packet.iter("field"):
        if not re.match(r"(Flow \d+( \(\w+\))?|pdu \d+/\d+)$", node.get("show") or ""):
            continue
        found = names(node)
        pair = {"cflow.srcaddr", "cflow.dstaddr"} <= found or {"cflow.srcaddrv6", "cflow.dstaddrv6"} <= found
        if not pair:
            # Options data: what it says of sampling holds from here on.
            state["rate"] = number(node, ["cflow.sampling_interval"]) or state.get("rate")
            continue
        counted = found & {*BYTES, *PACKETS, *BYTES_BACK, *PACKETS_BACK}
        if not counted and number(node, ["cflow.firewall_event"]) not in (1, 2, 3, 5):
            continue
        factor = max(rate, state.get("rate") or 1, 1)
        total[0] += 1
        total[1] += factor * (number(node, BYTES) + number(node, BYTES_BACK) + number(node, BYTES, back=True))
        total[2] += factor * (number(node, PACKETS) + number(node, PACKETS_BACK) + number(node, PACKETS, back=True))
    return total


def samples(packet):
    """(samples, bytes, packets) of an sFlow packet."""
    total = [0, 0, 0]
    for node in packet.iter("field"):
        if not (node.get("show") or "").startswith(("Flow sample", "Expanded flow sample")):
            continue
        rate = number(node, ["sflow.flow_sample.sampling_rate"]) or 1
        length = number(node, ["ip.len"]) or 40 + number(node, ["ipv6.plen"])
        if {"ip.src", "ipv6.src"} & names(node):
            total = [total[0] + 1, total[1] + rate * length, total[2] + rate]
    return total


def cases(data):
    """(name, files) of each exporter; of a family of files those with templates first, options templates before all."""
    families = {}
    for file in sorted((data / "netflow-datagrams").glob("*.dat")):
        family = re.sub(r"_(opttpl|tpls|tpl|data).*|\.dat$", "", file.name)
        families.setdefault(f"netflow-datagrams/{family}", []).append(file)
    for name, files in families.items():
        yield name, sorted(files, key=lambda file: ("opttpl" not in file.name, "tpl" not in file.name, file.name))
    for directory in sorted((data / "telegraf-datagrams").iterdir()):
        if directory.is_dir():
            yield f"telegraf-datagrams/{directory.name}", sorted(directory.glob("*.bin"))


def main():
    data = pathlib.Path(sys.argv[1])
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["case", "file", "records", "bytes", "packets"])
    for case, files in cases(data):
        parts = [(file, part) for file in files for part in datagrams(file.read_bytes())]
        state, totals = {}, {file: [0, 0, 0] for file in files}
        for (file, part), packet in zip(parts, dissect([part for _, part in parts]), strict=True):
            found = samples(packet) if part[:4] == b"\0\0\0\5" else flows(packet, state)
            totals[file] = [old + new for old, new in zip(totals[file], found)]
        for file in files:
            out.writerow([case, file.relative_to(data), *totals[file]])


main()
