//! The edge. Sources → decode → charge → summarise → uplink: whatever a site exports becomes per-host windows of one
//! slice each, which stream to the aggregators.

pub mod charge;
pub mod compressed;
pub mod export;
pub mod fault;
pub mod ledger;
pub mod log;
pub mod networks;
pub mod packet;
pub mod recent;
pub mod recognise;
pub mod summarise;
