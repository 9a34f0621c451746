//! The edge. Sources → decode → charge → summarise → uplink: whatever a site exports becomes per-host windows of one
//! slice each, which stream to the aggregators.

pub mod compressed;
pub mod export;
pub mod fault;
pub mod log;
pub mod packet;
pub mod recognise;
