//! The edge. Sources → decode → charge → summarise → uplink: whatever a site exports becomes per-host windows of one
//! slice each, which stream to the aggregators.

pub mod charge;
mod checkpoint;
mod collector;
pub mod compressed;
pub mod export;
pub mod fault;
pub mod ledger;
mod live;
pub mod log;
mod memory_limit;
pub mod metrics;
pub mod networks;
mod options;
pub mod packet;
pub mod pipeline;
pub mod places;
pub mod recent;
pub mod recognise;
mod recorded;
mod saved_map;
pub mod source;
pub mod spool;
pub mod summarise;
pub mod uplink;
pub mod values;

pub use checkpoint::CheckpointError;
pub use collector::{Handle, start};
pub use memory_limit::MemoryLimit;
pub use options::{Error, Options, SourceOptions, SpoolOptions};
pub use places::PlaceOptions;
pub use source::listener::{Datagram, ListenerMetrics};
