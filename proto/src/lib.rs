//! The wire contract. The types are generated from `spikewatch/v1/*.proto`; [`convert`] is the one place that turns what
//! came over a wire into the nouns of `domain`, and refuses what does not fit.

pub mod channel;
pub mod convert;
pub mod trace;

/// The generated messages and services of package `spikewatch.v1`.
#[allow(missing_docs, unreachable_pub, rust_2018_idioms, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("spikewatch.v1");
}

/// The encoded `FileDescriptorSet` of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Version of the protocol; peers with another one are refused.
pub const PROTOCOL_VERSION: u32 = 1;
/// Number of the hash that assigns keys to shards (rapidhash v3, first seed).
pub const HASH_ID: u32 = 1;

/// Metadata of a refusal by a detector that does not lead: where the one is that does, "http://host:port".
pub const LEADER_METADATA: &str = "x-spikewatch-leader";
