//! SIGTERM and SIGINT: the first asks for a shutdown, the second ends the program.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a program that a second signal ended: 128 + SIGINT, as a shell has it.
const ABORTED: i32 = 130;

/// Both signals, watched from the moment this is made.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the system's default, which is to end the process.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn watch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Runs a shutdown to its end, unless a signal comes: then the process ends at once.
    pub(crate) async fn or_abort<T>(&mut self, shutdown: impl Future<Output = T>) -> T {
        tokio::select! {
            done = shutdown => done,
            () = self.received() => std::process::exit(ABORTED),
        }
    }
}
