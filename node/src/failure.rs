//! How the program ends: exit codes as in `sysexits.h`, and one message for a person.

use std::{fmt::Display, io, net::SocketAddr};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Wrong usage or configuration; nothing was started.
    #[error("{0}")]
    Usage(String),
    /// There was nothing to work on.
    #[error("{0}")]
    NoInput(String),
    /// A bug, or something the program has no better word for.
    #[error("{0}")]
    Internal(String),
    /// Reading, writing, or a port failed.
    #[error("{0}")]
    Io(String),
}

/// What a command ends with.
pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    /// The exit code: 64 usage or configuration, 65 no usable input, 70 internal, 74 input or output.
    #[must_use]
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::NoInput(_) => 65,
            Self::Internal(_) => 70,
            Self::Io(_) => 74,
        }
    }

    /// A failure of something that should not fail.
    pub(crate) fn internal(error: impl Display) -> Self {
        Self::Internal(error.to_string())
    }

    /// A port that can't be had.
    #[must_use]
    pub(crate) fn port(what: &str, address: SocketAddr, error: &io::Error) -> Self {
        Self::Io(format!("can't listen on {address} for {what}: {error}"))
    }
}
