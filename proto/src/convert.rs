//! From wire to domain and back. Everything untrusted is checked here, once; an error names the field and what it held.

pub mod alerts;
pub mod cluster;
pub mod commit;
pub mod early;
pub mod ingest;
pub mod intake;
pub mod results;
pub mod windows;

/// A message that does not hold what its field comments promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field, as `Message.field`.
    pub field: &'static str,
    /// What it holds and what was expected.
    pub problem: String,
}

impl Invalid {
    /// An error about `field`.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}
