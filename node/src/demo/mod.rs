//! The built-in generator: two sites, 200 hosts, 15 days of traffic, as the datagrams that real exporters would send.
//!
//! Everything follows from a seed: the hosts' habits, their noise and the five staged incidents. Event time is fixed
//! (it starts on Monday 2026-01-05), so that a run can be repeated on any day. From the inside out:
//!
//! ```text
//! random → rhythm → office, server, device → host ┐
//!                                        incident ┴→ traffic (conversations) → exporter → netflow9 | ipfix | sflow → Datagram
//! ```
//!
//! All external addresses are from ranges reserved for documentation and benchmarks (RFC 5737, RFC 2544).

mod device;
mod exporter;
mod host;
mod incident;
mod ipfix;
mod netflow9;
mod network;
mod office;
mod random;
mod rhythm;
mod scenario;
mod server;
mod sflow;
mod traffic;

pub(crate) use exporter::Datagram;
pub(crate) use incident::{Incident, IncidentKind};
pub(crate) use scenario::Scenario;
