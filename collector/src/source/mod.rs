//! Where traffic comes from: files, listeners, and datagrams handed over in the process. A source reads, says where a
//! fault lies, and drives the [`Pipeline`](crate::pipeline::Pipeline).

pub(crate) mod channel;
pub mod file;
pub mod files;
mod kernel_drops;
pub mod listener;
