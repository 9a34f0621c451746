//! Export datagrams written by hand, for tests.
#![allow(dead_code, reason = "each test program uses a part")]

/// 2023-11-14T22:13:20Z, in seconds.
pub(crate) const EXPORT_SECONDS: u32 = 1_700_000_000;
/// The uptime (ms) in the headers that have one.
pub(crate) const UPTIME_MS: u32 = 600_000;

/// A field of a template: enterprise (0 for none), number, length.
pub(crate) type Field = (u32, u16, u16);

/// A NetFlow v5 datagram of `count` records, each of 10 packets and 1000 bytes.
pub(crate) fn netflow5(sequence: u32, sampling: u16, count: u16) -> Vec<u8> {
    let mut out = [5_u16.to_be_bytes(), count.to_be_bytes()].concat();
    for word in [UPTIME_MS, EXPORT_SECONDS, 0, sequence] {
        out.extend(word.to_be_bytes());
    }
    out.extend([0, 0]);
    out.extend(sampling.to_be_bytes());
    for index in 0..count {
        let mut record = [0; 48];
        record[..4].copy_from_slice(&[10, 0, 0, index.to_be_bytes()[1]]);
        record[4..8].copy_from_slice(&[192, 0, 2, 1]);
        record[16..20].copy_from_slice(&10_u32.to_be_bytes());
        record[20..24].copy_from_slice(&1000_u32.to_be_bytes());
        record[24..28].copy_from_slice(&(UPTIME_MS - 5000).to_be_bytes());
        record[28..32].copy_from_slice(&(UPTIME_MS - 1000).to_be_bytes());
        record[32..36].copy_from_slice(&[0x80, 0x01, 0x01, 0xbb]);
        record[38] = 6;
        out.extend(record);
    }
    out
}

/// A NetFlow v9 datagram of source id 1.
pub(crate) fn netflow9(sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0, 9, 0, 1];
    for word in [UPTIME_MS, EXPORT_SECONDS, sequence, 1] {
        out.extend(word.to_be_bytes());
    }
    out.extend(sets.concat());
    out
}

/// An IPFIX message of observation domain `domain`.
pub(crate) fn ipfix(domain: u32, sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let body = sets.concat();
    let length = u16::try_from(16 + body.len()).unwrap();
    let mut out = [10_u16.to_be_bytes(), length.to_be_bytes()].concat();
    for word in [EXPORT_SECONDS, sequence, domain] {
        out.extend(word.to_be_bytes());
    }
    out.extend(body);
    out
}

/// A set with its header, padded to a multiple of four.
pub(crate) fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let padding = vec![0; (4 - body.len() % 4) % 4];
    let length = u16::try_from(4 + body.len() + padding.len()).unwrap();
    [&id.to_be_bytes()[..], &length.to_be_bytes(), body, &padding].concat()
}

/// A template as it stands in a set: of NetFlow v9 and, with enterprise fields, of IPFIX.
pub(crate) fn template(id: u16, fields: &[Field]) -> Vec<u8> {
    let count = u16::try_from(fields.len()).unwrap();
    [&id.to_be_bytes()[..], &count.to_be_bytes(), &specifiers(fields)].concat()
}

/// An IPFIX options template, of which the first `scopes` fields are scope.
pub(crate) fn ipfix_options(id: u16, scopes: u16, fields: &[Field]) -> Vec<u8> {
    let count = u16::try_from(fields.len()).unwrap();
    [&id.to_be_bytes()[..], &count.to_be_bytes(), &scopes.to_be_bytes(), &specifiers(fields)].concat()
}

/// A NetFlow v9 options template.
pub(crate) fn netflow9_options(id: u16, scopes: &[Field], fields: &[Field]) -> Vec<u8> {
    let length = |fields: &[Field]| u16::try_from(4 * fields.len()).unwrap().to_be_bytes();
    [&id.to_be_bytes()[..], &length(scopes), &length(fields), &specifiers(scopes), &specifiers(fields)].concat()
}

fn specifiers(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for (enterprise, number, length) in fields {
        let bit = if *enterprise == 0 { 0 } else { 0x8000 };
        out.extend((number | bit).to_be_bytes());
        out.extend(length.to_be_bytes());
        if *enterprise != 0 {
            out.extend(enterprise.to_be_bytes());
        }
    }
    out
}

/// The 24 bytes of a record of [`FLOW`].
pub(crate) fn flow(bytes: u32, packets: u32) -> Vec<u8> {
    let mut out = vec![10, 0, 0, 1, 192, 0, 2, 1, 0x80, 0x01, 0x01, 0xbb, 6, 0, 0, 0];
    out.extend(bytes.to_be_bytes());
    out.extend(packets.to_be_bytes());
    out
}

/// Addresses, ports, protocol, three bytes of TCP flags and more, bytes, packets.
pub(crate) const FLOW: &[Field] =
    &[(0, 8, 4), (0, 12, 4), (0, 7, 2), (0, 11, 2), (0, 4, 1), (0, 5, 1), (0, 6, 2), (0, 1, 4), (0, 2, 4)];

/// An sFlow datagram of sub-agent 0 of 192.0.2.9, with one flow sample of these records, one in `rate` packets.
pub(crate) fn sflow(sequence: u32, rate: u32, records: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
    let mut sample = words(&[1, 3, rate, 1000, 0, 1, 2, u32::try_from(records.len()).unwrap()]);
    for (kind, body) in records {
        sample.extend(words(&[*kind, u32::try_from(body.len()).unwrap()]));
        sample.extend(body);
    }
    let header = words(&[5, 1, 0xc000_0209, 0, sequence, UPTIME_MS, 1]);
    [header, words(&[1, u32::try_from(sample.len()).unwrap()]), sample].concat()
}
