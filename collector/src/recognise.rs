//! What a file holds, told from its first bytes: names and extensions lie.

use std::fmt::Write as _;

/// A format that a source can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A packet capture (libpcap).
    Pcap,
    /// A packet capture (pcapng).
    Pcapng,
    /// Export datagrams of NetFlow v5, v9 or IPFIX, one behind the other, nothing around them.
    Netflow,
    /// Export datagrams of sFlow v5, likewise.
    Sflow,
    /// ECS documents, one JSON object a line.
    Ecs,
    /// Zeek's conn.log with its `#` header.
    ZeekTsv,
    /// Zeek's conn.log, one JSON object a line.
    ZeekJson,
}

/// Content that is none of the formats.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unrecognised content: {found}; understood are pcap, pcapng, raw NetFlow v5/v9, IPFIX and sFlow v5 datagrams, ECS \
     documents as NDJSON, Zeek conn logs as TSV or JSON, each also within gzip or zstd"
)]
pub struct Unrecognised {
    /// What was found: the first bytes, and what they are where that is known.
    pub found: String,
}

/// Tells the format from the start of the (decompressed) content; up to 64 KiB of it help, a few dozen bytes suffice.
///
/// # Errors
/// [`Unrecognised`], with what was found instead.
pub fn recognise(head: &[u8]) -> Result<Format, Unrecognised> {
    capture(head).or_else(|| text(head)).or_else(|| export(head)).ok_or_else(|| unrecognised(head))
}

/// Captures start with a magic number: microseconds, nanoseconds or Kuznetzov's variant in either byte order, or the
/// section header block of pcapng.
fn capture(head: &[u8]) -> Option<Format> {
    let pcap: [[u8; 4]; 3] = [[0xA1, 0xB2, 0xC3, 0xD4], [0xA1, 0xB2, 0x3C, 0x4D], [0xA1, 0xB2, 0xCD, 0x34]];
    let magic: [u8; 4] = head.first_chunk().copied()?;
    let [a, b, c, d] = magic;
    if pcap.contains(&magic) || pcap.contains(&[d, c, b, a]) {
        return Some(Format::Pcap);
    }
    (magic == [0x0A, 0x0D, 0x0D, 0x0A]).then_some(Format::Pcapng)
}

fn text(head: &[u8]) -> Option<Format> {
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    match head.first() {
        Some(b'#') => {
            let header = [b"#separator".as_slice(), b"#fields", b"#path", b"#set_separator", b"#types"];
            header.iter().any(|line| head.starts_with(line)).then_some(Format::ZeekTsv)
        }
        Some(b'{') => {
            let has = |key: &[u8]| head.windows(key.len()).any(|window| window == key);
            let ecs = has(b"\"@timestamp\"") || has(b"\"_source\"");
            let event = has(b"\"event\"") || has(b"\"event.") || has(b"\"ecs\"") || has(b"\"ecs.");
            let zeek = has(b"\"id.orig_h\"") || has(b"\"orig_h\"") || (has(b"\"_path\"") && has(b"\"ts\""));
            match (ecs, event, zeek) {
                (true, true, _) | (true, false, false) => Some(Format::Ecs),
                (_, _, true) => Some(Format::ZeekJson),
                (false, _, false) => None,
            }
        }
        _ => None,
    }
}

/// Export datagrams have a version number and no magic, so the fields behind it must make sense too. What a decoder
/// then finds wrong inside them is the decoder's to say.
fn export(head: &[u8]) -> Option<Format> {
    let short = |at: usize| head.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
    let long = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    // A set's id and length; ids 4–255 are reserved. A header without sets is a datagram too.
    let set = |at: usize, ids: std::ops::RangeInclusive<u16>| match (short(at), short(at + 2)) {
        (Some(id), Some(length)) => (ids.contains(&id) || id >= 256) && length >= 4,
        _ => head.len() == at,
    };
    match (short(0)?, short(2)?) {
        // Header of 24 bytes, 1–30 records of 48 (Cisco, NetFlow Export Datagram Format).
        (5, 1..=30) if head.len() >= 24 => Some(Format::Netflow),
        // A wrong count in one datagram that is otherwise whole.
        (5, _) if head.len() >= 72 && (head.len() - 24).is_multiple_of(48) => Some(Format::Netflow),
        // RFC 3954 section 5.1.
        (9, count) if count > 0 && set(20, 0..=1) => Some(Format::Netflow),
        // RFC 7011 section 3.1; set ids 2 and 3 are templates.
        (10, length) if length >= 16 && set(16, 2..=3) => Some(Format::Netflow),
        // sFlow v5: version, address type (1 IPv4, 2 IPv6), agent, sub-agent, sequence, uptime, number of samples.
        (0, 5) => {
            let samples = match long(4)? {
                1 => long(24)?,
                2 => long(36)?,
                _ => return None,
            };
            (samples <= 1_024).then_some(Format::Sflow)
        }
        _ => None,
    }
}

fn unrecognised(head: &[u8]) -> Unrecognised {
    let start = head.get(..16).unwrap_or(head);
    let known = match head {
        [] => return Unrecognised { found: "it is empty".to_owned() },
        [b'B', b'Z', b'h', ..] => " (bzip2)",
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => " (xz)",
        [0x1F, 0x8B, ..] | [0x28, 0xB5, 0x2F, 0xFD, ..] => " (compressed twice)",
        [b'P', b'K', 3, 4, ..] => " (zip)",
        [0x0C, 0xA5, 1, 0, ..] => " (nfdump)",
        _ => match head.trim_ascii_start().first() {
            Some(b'[') => " (a JSON array; one object a line is read)",
            Some(b'{') => " (JSON, neither ECS, which has @timestamp, nor Zeek, which has id.orig_h)",
            Some(_) => "",
            None => " (blanks)",
        },
    };
    let mut found = "it starts with".to_owned();
    for byte in start {
        let _ = write!(found, " {byte:02x}");
    }
    let _ = write!(found, " \"{}\"{known}", start.escape_ascii());
    Unrecognised { found }
}
