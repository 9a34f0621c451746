//! What every role runs on: mailboxes, supervision, kinds of task, shutdown, latencies, and the seams for time,
//! randomness, spawning and connections. Small, on tokio's channels; the rest of the project uses tokio's clock and spawning only
//! through here, so that a test (or a simulator) decides what happens when.

pub mod clock;
pub mod entropy;
pub mod latency;
pub mod mailbox;
pub mod network;
pub mod supervise;
pub mod task;
mod unwind;

/// What a role is started with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Seams {
    /// What time it is.
    pub clock: clock::Clock,
    /// Where random numbers come from.
    pub entropy: entropy::Entropy,
    /// Where tasks are spawned, and how they end.
    pub tasks: task::Tasks,
    /// How others are reached.
    pub network: network::Network,
    /// How long each hop takes.
    pub latencies: latency::Latencies,
}

impl Seams {
    /// The seams of a node in production: the system's clock and randomness, no tasks yet.
    #[must_use]
    pub fn system() -> Self {
        Self::new(clock::Clock::system(), entropy::Entropy::system())
    }

    /// The same, but with tasks that can be ended by themselves: see [`Tasks::group`](task::Tasks::group).
    #[must_use]
    pub fn group(&self) -> Self {
        Self { tasks: self.tasks.group(), ..self.clone() }
    }

    /// Seams on the given clock and randomness.
    #[must_use]
    pub fn new(clock: clock::Clock, entropy: entropy::Entropy) -> Self {
        let (tasks, network, latencies) =
            (task::Tasks::new(), network::Network::system(), latency::Latencies::default());
        Self { clock, entropy, tasks, network, latencies }
    }
}
