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

pub mod device;
pub mod exporter;
pub mod host;
pub mod incident;
pub mod ipfix;
pub mod netflow9;
pub mod network;
pub mod office;
pub mod random;
pub mod rhythm;
pub mod scenario;
pub mod server;
pub mod sflow;
pub mod traffic;

pub use exporter::Datagram;
pub use incident::{Incident, IncidentKind};
pub use scenario::Scenario;
