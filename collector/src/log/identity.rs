//! Hashes by which reports are told apart or joined. They go over the wire and into check-points, so the function is
//! frozen: rapidhash v3 with its default seed, over bytes alone.

use std::net::IpAddr;

use rapidhash::v3::rapidhash_v3;

/// Longest name that is kept of a host, user or process, bytes.
const LONGEST_NAME: usize = 256;

/// Hash of one identifier. Equal for every source that names the same thing (community ids, agents).
pub(crate) fn of(text: &str) -> u64 {
    rapidhash_v3(text.as_bytes())
}

/// Hash of a flow's id within its reporter.
pub(super) fn of_flow(reporter: &str, flow: &str) -> u64 {
    let mut bytes = Vec::with_capacity(reporter.len() + 1 + flow.len());
    bytes.extend_from_slice(reporter.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(flow.as_bytes());
    rapidhash_v3(&bytes)
}

/// Hash of a connection within its reporter: the same whichever end is named first.
pub(super) fn of_connection(reporter: &str, protocol: u8, one: (IpAddr, u16), other: (IpAddr, u16)) -> u64 {
    let mut bytes = Vec::with_capacity(reporter.len() + 2 + 2 * 18);
    bytes.extend_from_slice(reporter.as_bytes());
    bytes.extend_from_slice(&[0, protocol]);
    for (address, port) in [one.min(other), one.max(other)] {
        match address {
            IpAddr::V4(v4) => bytes.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes.extend_from_slice(&v6.octets()),
        }
        bytes.extend_from_slice(&port.to_be_bytes());
    }
    rapidhash_v3(&bytes)
}

/// A name as it is kept: cut at [`LONGEST_NAME`] bytes, between characters.
pub(super) fn name(text: &str) -> String {
    let mut end = text.len().min(LONGEST_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_frozen() {
        assert_eq!(of("1:LQU9qZlK+B5F3KDmev6m5PMibrg="), 16_944_416_540_866_340_291);
        assert_eq!(of_flow("agent", "flow"), 161_354_021_162_640_068);
    }

    #[test]
    fn a_connection_has_one_hash_in_both_directions() {
        let web: (IpAddr, u16) = ("192.0.2.1".parse().unwrap(), 443);
        let client: (IpAddr, u16) = ("10.0.0.9".parse().unwrap(), 50_000);
        assert_eq!(of_connection("a", 6, web, client), of_connection("a", 6, client, web));
        assert_ne!(of_connection("a", 6, web, client), of_connection("b", 6, web, client));
        assert_ne!(of_connection("a", 6, web, client), of_connection("a", 17, web, client));
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(name("web-1"), "web-1");
        let cut = name(&format!("a{}", "é".repeat(200)));
        assert_eq!(cut.len(), 255, "the 256th byte is the middle of an é");
    }
}
