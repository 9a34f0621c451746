//! NetFlow v5 datagrams (a header of 24 bytes, records of 48), as an exporter of a small site would send them.

/// 2026-01-01T00:00:00Z, where the traffic begins, ms.
pub(crate) const BEGIN: u64 = 1_767_225_600_000;
/// Length of a bucket, ms.
pub(crate) const QUARTER: u64 = 900_000;
/// Records in one datagram at most.
const MOST: usize = 30;

/// The server, unless another is named.
pub(crate) const SERVER: [u8; 4] = [198, 51, 100, 7];

/// Flows of 10.0.0.1 to one server's port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flows {
    pub(crate) server: [u8; 4],
    pub(crate) port: u16,
    pub(crate) count: usize,
}

/// The datagrams of one bucket, each with its time of receipt.
pub(crate) fn datagrams(bucket: u64, flows: &[Flows]) -> Vec<(u64, Vec<u8>)> {
    let seconds = (BEGIN + bucket * QUARTER) / 1000 + 60;
    let one = |flows: &Flows| std::iter::repeat_n((flows.server, flows.port), flows.count);
    let all: Vec<_> = flows.iter().flat_map(one).collect();
    let datagram = |flows: &[([u8; 4], u16)]| {
        let mut bytes = Vec::new();
        bytes.extend([0, 5, 0, flows.len() as u8]);
        bytes.extend(1_000_000u32.to_be_bytes()); // uptime, ms
        bytes.extend((seconds as u32).to_be_bytes());
        bytes.extend([0; 12]); // nanoseconds, sequence, engine, sampling
        for (number, (server, port)) in flows.iter().enumerate() {
            bytes.extend([10, 0, 0, 1]);
            bytes.extend(server);
            bytes.extend([0; 8]); // next hop, interfaces
            bytes.extend(2u32.to_be_bytes());
            bytes.extend(1_000u32.to_be_bytes());
            bytes.extend(999_000u32.to_be_bytes()); // first and last packet, by uptime
            bytes.extend(999_500u32.to_be_bytes());
            bytes.extend((40_000 + number as u16).to_be_bytes());
            bytes.extend(port.to_be_bytes());
            bytes.extend([0, 0x1b, 6, 0]); // padding, flags, protocol, class
            bytes.extend([0; 8]);
        }
        bytes
    };
    all.chunks(MOST).map(|flows| (seconds * 1000, datagram(flows))).collect()
}
