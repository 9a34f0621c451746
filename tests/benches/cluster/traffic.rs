//! NetFlow v5 of hosts that each send one small flow now.

/// Records of a datagram: as many as version 5 has room for.
pub(crate) const RECORDS: u32 = 30;
/// An exporter's uptime, ms, by which the flow's times are told.
const UPTIME: u32 = 1_000_000;

/// One datagram at this time: a flow of each of these hosts, numbered within 10.0.0.0/8.
pub(crate) fn datagram(now_ms: u64, hosts: impl ExactSizeIterator<Item = u32>) -> Vec<u8> {
    flows(now_ms, hosts.map(|host| (host, (host % 60_000) as u16)))
}

/// One datagram at this time: of each flow its host, numbered within 10.0.0.0/8, and a number that tells it from the
/// host's others.
pub(crate) fn flows(now_ms: u64, flows: impl ExactSizeIterator<Item = (u32, u16)>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + 48 * flows.len());
    bytes.extend(5u16.to_be_bytes());
    bytes.extend((flows.len() as u16).to_be_bytes());
    bytes.extend(UPTIME.to_be_bytes());
    bytes.extend(((now_ms / 1000) as u32).to_be_bytes());
    bytes.extend(((now_ms % 1000) as u32 * 1_000_000).to_be_bytes());
    bytes.extend([0; 8]);
    for (host, number) in flows {
        bytes.extend((0x0a00_0001 + host).to_be_bytes());
        // One of four servers, so that peers repeat.
        bytes.extend([198, 51, 100, (host % 4) as u8]);
        bytes.extend([0; 8]);
        bytes.extend(3u32.to_be_bytes());
        bytes.extend((500 + host % 1_000).to_be_bytes());
        bytes.extend(UPTIME.to_be_bytes());
        bytes.extend(UPTIME.to_be_bytes());
        bytes.extend(number.saturating_add(1_024).to_be_bytes());
        bytes.extend(443u16.to_be_bytes());
        bytes.extend([0, 0x18, 6, 0]);
        bytes.extend([0; 8]);
    }
    bytes
}
