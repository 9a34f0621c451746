//! Whole-system tests live in this crate's `tests`; this library is what tests of other crates share.

pub mod history;
pub mod memory_store;
pub mod mmdb;
pub mod postgres;
