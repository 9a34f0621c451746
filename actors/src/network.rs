//! Connections: the system's, or those of a simulator.

use std::{fmt, io, pin::Pin, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

/// What a connection is made of.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection being made.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send>>;

/// Makes a connection to "host:port".
pub type Dial = Arc<dyn Fn(String) -> Dialling + Send + Sync>;

/// How others are reached. Clones are the same.
#[derive(Clone, Default)]
pub struct Network(Option<Dial>);

impl Network {
    /// The system's sockets.
    #[must_use]
    pub fn system() -> Self {
        Self(None)
    }

    /// Whatever `dial` makes.
    #[must_use]
    pub fn of(dial: Dial) -> Self {
        Self(Some(dial))
    }

    /// What makes connections; `None` if they are the system's.
    #[must_use]
    pub fn dial(&self) -> Option<Dial> {
        self.0.clone()
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Network(simulated)" } else { "Network(system)" })
    }
}
