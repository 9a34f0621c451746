//! Joint evidence of one host: what its measures say together, and what no single one of them can.
//!
//! ```text
//! residuals of the single measures ─┐                 ┌▶ exfiltration ───────────────────▶┐
//! peers ─▶ PeerMemory ─▶ new bytes ─┴▶ Model ─────────┴▶ tiny ─┐                          ├▶ Rates ─▶ decades
//! evidence of the single measures ─────────────────────────────┴▶ rarest of the channels ─┘
//! ```
//!
//! A host has two scores, each with a budget of its own: *activity* (the single measures and tiny traffic) and
//! *exfiltration*. In one budget the second would take from the first.
//!
//! Everything here is pure: no clock, no randomness, no I/O. Judged first, learnt after; equal to the last bit on every
//! machine and after a restart.

mod codec;
mod days;
mod host;
mod hours;
mod model;
mod peers;
mod rates;

pub use host::{Host, Judged, Measured};
pub(crate) use model::UNKNOWN;
pub use model::{Bucket, Evidence, Foreseen, Form, Model, Residuals};
pub use peers::PeerMemory;
pub use rates::{CHANNELS, Channel, Channels, Rates};

#[cfg(test)]
mod tests;
