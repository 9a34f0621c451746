//! Baselines: what is normal for a series, and how surprising a value is.
//!
//! ```text
//! value ─▶ Compact ─▶ Evidence q ─▶ Calibration ─▶ L = -log10 p ─▶ record_score ─▶ 0..100
//!          one per series            one per job
//! ```
//!
//! Everything here is pure: no clock, no randomness, no I/O (except [`table`], which takes a reader and a writer).
//! Arithmetic is in doubles, logarithms come from `libm`, and state is rounded to its stored width at each store: a
//! score is bit-equal on every machine, and a saved and reloaded series goes on exactly where it was.

mod calibration;
pub(crate) mod codec;
mod compact;
pub(crate) mod daily_maxima;
mod evidence;
mod learn;
mod novelty;
mod predict;
pub(crate) mod residual;
pub mod rich;
mod season;
pub mod table;

pub use calibration::{CALIBRATE_AFTER_S, Calibration, Curve, extended_score, prior_l, record_score};
pub use codec::DecodeError;
pub use compact::{Compact, LARGEST_VALUE, PRIOR_UNKNOWN, Side};
pub use evidence::{Evidence, multi_bucket_impact};
pub(crate) use novelty::Novelty;
pub(crate) use predict::Prediction;
