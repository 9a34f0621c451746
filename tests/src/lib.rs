//! Whole-system tests of Spikewatch. The crate is empty; each test binary is in `tests/`.
