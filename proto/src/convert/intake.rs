//! What clients tell collectors: hello, and numbered batches of flow records.

use std::net::IpAddr;

use spikewatch_domain::record::{Annotations, FlowRecord, Report};

use super::{Invalid, cluster::at_most};
use crate::v1;

/// Most records of one batch.
pub const MAX_RECORDS: usize = 65_536;
/// Most bytes of a client's name.
pub const MAX_CLIENT_BYTES: usize = 255;
/// Most addresses of one host.
const MAX_ADDRESSES: usize = 64;
/// Most bytes of a name in a record.
const MAX_NAME_BYTES: usize = 256;
/// Latest time: the end of 32-bit seconds, year 2106.
const LATEST_MS: u64 = (1 << 32) * 1_000;

/// Reads who sends.
///
/// # Errors
/// The name is empty, too long, or has control characters.
pub fn client(message: &v1::IntakeHello) -> Result<String, Invalid> {
    let name = &message.client;
    let plain = (1..=MAX_CLIENT_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    let problem =
        || Invalid::new("IntakeHello.client", format!("{name:?} is no name: expected 1 to {MAX_CLIENT_BYTES} bytes"));
    plain.then(|| name.clone()).ok_or_else(problem)
}

/// What a batch holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content<'a> {
    /// Records.
    Records(&'a [v1::FlowRecord]),
    /// Lines.
    Lines(&'a [u8]),
}

/// A batch: its number, which is at least 1, and what it holds.
///
/// # Errors
/// It has no number, or too many records.
pub fn batch(message: &v1::IntakeBatch) -> Result<(u64, Content<'_>), Invalid> {
    if message.sequence == 0 {
        return Err(Invalid::new("IntakeBatch.sequence", "is missing: expected 1 or more"));
    }
    let content = match &message.content {
        Some(v1::intake_batch::Content::Records(records)) => {
            at_most("FlowRecords.record", records.record.len(), MAX_RECORDS)?;
            Content::Records(&records.record)
        }
        Some(v1::intake_batch::Content::Lines(lines)) => Content::Lines(lines),
        None => return Err(Invalid::new("IntakeBatch.content", "is missing: expected records or lines")),
    };
    Ok((message.sequence, content))
}

/// A record, and its community id if it has one: what that is hashed to is the collector's to say.
///
/// # Errors
/// A field is out of range; the rest of the batch may be fine.
pub fn record(message: &v1::FlowRecord) -> Result<(FlowRecord, Option<&str>), Invalid> {
    let &v1::FlowRecord { start_ms, end_ms, .. } = message;
    if end_ms < start_ms {
        return Err(Invalid::new("FlowRecord.end_ms", format!("is {end_ms}, before start_ms ({start_ms})")));
    }
    if end_ms > LATEST_MS {
        return Err(Invalid::new("FlowRecord.end_ms", format!("is {end_ms}, after the year 2106: expected ms")));
    }
    let source = address("FlowRecord.source", &message.source)?;
    let destination = address("FlowRecord.destination", &message.destination)?;
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(Invalid::new("FlowRecord.destination", format!("is {destination}, but source is {source}")));
    }
    let protocol = u8::try_from(message.protocol)
        .map_err(|_| Invalid::new("FlowRecord.protocol", format!("is {}, expected at most 255", message.protocol)))?;
    Ok((
        FlowRecord {
            source_port: port("FlowRecord.source_port", message.source_port)?,
            destination_port: port("FlowRecord.destination_port", message.destination_port)?,
            protocol,
            initiator_known: message.initiator_known,
            source_bytes: message.source_bytes,
            source_packets: message.source_packets,
            destination_bytes: message.destination_bytes,
            destination_packets: message.destination_packets,
            report: if message.more_follows { Report::Partial } else { Report::Complete },
            denied: message.denied,
            estimated: message.estimated,
            annotations: annotations(message)?.map(Box::new),
            ..FlowRecord::between(source, destination, start_ms, end_ms)
        },
        name("FlowRecord.community_id", &message.community_id)?,
    ))
}

fn annotations(message: &v1::FlowRecord) -> Result<Option<Annotations>, Invalid> {
    at_most("FlowRecord.host_addresses", message.host_addresses.len(), MAX_ADDRESSES)?;
    let host_addresses = message.host_addresses.iter().map(|bytes| address("FlowRecord.host_addresses", bytes));
    let known = Annotations {
        host_name: name("FlowRecord.host_name", &message.host_name)?.map(str::to_owned),
        host_addresses: host_addresses.collect::<Result<_, _>>()?,
        user: name("FlowRecord.user", &message.user)?.map(str::to_owned),
        process: name("FlowRecord.process", &message.process)?.map(str::to_owned),
        ..Annotations::default()
    };
    let any = known.host_name.is_some() || known.user.is_some() || known.process.is_some();
    Ok(any.then_some(known))
}

/// A name, if there is one.
fn name<'a>(field: &'static str, text: &'a str) -> Result<Option<&'a str>, Invalid> {
    at_most(field, text.len(), MAX_NAME_BYTES)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn port(field: &'static str, number: u32) -> Result<u16, Invalid> {
    u16::try_from(number).map_err(|_| Invalid::new(field, format!("is {number}, expected at most 65535")))
}

fn address(field: &'static str, bytes: &[u8]) -> Result<IpAddr, Invalid> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::from(bytes).to_canonical()));
    address.map_err(|_| Invalid::new(field, format!("has {} bytes, expected 4 or 16", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> v1::FlowRecord {
        v1::FlowRecord {
            start_ms: 1_000,
            end_ms: 2_500,
            source: vec![10, 0, 0, 1],
            destination: vec![192, 0, 2, 7],
            source_port: 50_000,
            destination_port: 443,
            protocol: 6,
            source_bytes: 7,
            ..v1::FlowRecord::default()
        }
    }

    #[test]
    fn a_record_says_what_it_says() {
        let message = flow();
        let (record, community) = self::record(&message).unwrap();
        let plain = FlowRecord {
            source_port: 50_000,
            destination_port: 443,
            protocol: 6,
            source_bytes: 7,
            ..FlowRecord::between([10, 0, 0, 1].into(), [192, 0, 2, 7].into(), 1_000, 2_500)
        };
        assert_eq!((record, community), (plain, None));
        let named = v1::FlowRecord {
            host_name: "web".into(),
            host_addresses: vec![vec![10, 0, 0, 1]],
            community_id: "1:x".into(),
            more_follows: true,
            ..flow()
        };
        let (record, community) = self::record(&named).unwrap();
        assert_eq!((record.report, community), (Report::Partial, Some("1:x")));
        assert_eq!(record.annotations.unwrap().host_name.as_deref(), Some("web"));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_field() {
        type Break = fn(&mut v1::FlowRecord);
        let broken: [(Break, &str); 9] = [
            (|m| m.end_ms = 999, "FlowRecord.end_ms"),
            (|m| m.end_ms = u64::MAX, "FlowRecord.end_ms"),
            (|m| m.source = vec![1, 2, 3], "FlowRecord.source"),
            (|m| m.destination = vec![1; 16], "FlowRecord.destination"),
            (|m| m.source_port = 65_536, "FlowRecord.source_port"),
            (|m| m.destination_port = 1 << 20, "FlowRecord.destination_port"),
            (|m| m.protocol = 256, "FlowRecord.protocol"),
            (|m| m.host_name = "a".repeat(257), "FlowRecord.host_name"),
            (|m| m.host_addresses = vec![vec![]; 65], "FlowRecord.host_addresses"),
        ];
        for (break_it, field) in broken {
            let mut message = flow();
            break_it(&mut message);
            assert_eq!(record(&message).unwrap_err().field, field);
        }
    }

    #[test]
    fn batches_are_numbered_and_hold_something() {
        let lines = v1::intake_batch::Content::Lines(b"x".to_vec());
        let good = v1::IntakeBatch { sequence: 1, content: Some(lines) };
        assert_eq!(batch(&good).unwrap(), (1, Content::Lines(b"x")));
        let unnumbered = v1::IntakeBatch { sequence: 0, ..good };
        assert_eq!(batch(&unnumbered).unwrap_err().field, "IntakeBatch.sequence");
        let empty = v1::IntakeBatch { sequence: 1, content: None };
        assert_eq!(batch(&empty).unwrap_err().field, "IntakeBatch.content");
        let records = v1::FlowRecords { record: vec![flow(); MAX_RECORDS + 1] };
        let many = v1::IntakeBatch { sequence: 1, content: Some(v1::intake_batch::Content::Records(records)) };
        assert_eq!(batch(&many).unwrap_err().field, "FlowRecords.record");
    }

    #[test]
    fn a_client_has_a_name() {
        let named = |client: &str| client.to_owned();
        for bad in ["", "a\nb", &"a".repeat(256)] {
            assert!(client(&v1::IntakeHello { client: named(bad) }).is_err(), "{bad:?}");
        }
        assert_eq!(client(&v1::IntakeHello { client: named("edge 7") }).unwrap(), "edge 7");
    }
}
