//! Where traffic comes from: files, listeners, and datagrams handed over in the process. A source reads, says where a
//! fault lies, and drives the [`Pipeline`](crate::pipeline::Pipeline).

pub(crate) mod channel;
pub mod file;
pub mod files;
pub(crate) mod follow;
pub(crate) mod followed;
pub(crate) mod intake;
mod kernel_drops;
pub(crate) mod lines;
pub mod listener;
pub(crate) mod once;
