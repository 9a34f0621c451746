#!/usr/bin/env bash
# What recorded*.pcap hold, as tshark counts them: file,protocol,flows,packets,bytes (layer 3). In recorded.pcap a
# flow is a conversation, whichever end began it (ICMP: a pair of addresses); in NetFlow and IPFIX, a flow
# record, but for a biflow record, which is two: one each way.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fields() { # fields FILE FIELD…: one line a packet; a field that occurs several times has commas
    local file=$1 arguments=()
    shift
    for field in "$@"; do arguments+=(-e "$field"); done
    tshark -r "$file" -d udp.port==2055,"$dissector" -T fields -E separator='|' "${arguments[@]}" 2>/dev/null
}

echo file,protocol,flows,packets,bytes
dissector='cflow'
fields recorded.pcap ip.src ip.dst ip.proto ip.len ipv6.src ipv6.dst ipv6.nxt ipv6.plen \
    tcp.srcport tcp.dstport udp.srcport udp.dstport icmpv6.type |
    awk -F'|' '{
        # An ICMP error quotes the packet it answers: of two values the first is the outer one.
        for (i = 1; i <= NF; i++) sub(/,.*/, "", $i)
        protocol = $13 != "" ? 58 : $3 $7 # ICMPv6 may stand behind a hop-by-hop header
        a = $1 $5; b = $2 $6; if (protocol == 6 || protocol == 17) { a = a " " $9 $11; b = b " " $10 $12 }
        key = protocol " " (a < b ? a " " b : b " " a)
        if (!(key in seen)) { seen[key] = 1; flows[protocol]++ }
        packets[protocol]++; bytes[protocol] += ($4 != "" ? $4 : $8 + 40)
    } END { for (p in flows) print "recorded.pcap," p "," flows[p] "," packets[p] "," bytes[p] }' | sort -t, -k2n

for file in recorded_netflow5 recorded_netflow9 recorded_ipfix recorded_ipfix_biflow; do
    fields $file.pcap cflow.protocol cflow.packets cflow.octets |
        awk -F'|' -v file=$file '{
            records = split($1, protocol, ","); split($2, packet, ","); split($3, octet, ",")
            # A biflow has both directions in one record, the reverse counters after the forward ones; none, if zero.
            each = file ~ /biflow/ ? 2 : 1
            for (i = 1; i <= records; i++) for (way = 0; way < each; way++) {
                n = each * (i - 1) + 1 + way
                if (packet[n] == 0) continue
                flows[protocol[i]]++; packets[protocol[i]] += packet[n]; bytes[protocol[i]] += octet[n]
            }
        } END { for (p in flows) print file ".pcap," p "," flows[p] "," packets[p] "," bytes[p] }' | sort -t, -k2n
done

# A sample is a packet here (rate 1). Its frame length has Ethernet's 14 bytes and 4 of a checksum beyond layer 3.
dissector='sflow'
fields recorded_sflow.pcap sflow_245.header.frame_length |
    awk -F, '{ for (i = 1; i <= NF; i++) { packets++; bytes += $i - 18 } }
        END { print "recorded_sflow.pcap,all,," packets "," bytes }'
