//! Bounded mailboxes with two lanes: data waits its turn (and makes its sender wait when the mailbox is full), commands
//! overtake it. How often and how long senders waited is counted: a full mailbox is where a pipeline is slow.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// Commands that may wait. They are few and short; a sender of the next one waits.
const COMMANDS: usize = 64;

/// Makes a mailbox of that many data messages (at least 1).
#[must_use]
pub fn mailbox<M>(name: &'static str, capacity: usize) -> (Mailbox<M>, Inbox<M>) {
    let (data, data_out) = mpsc::channel(capacity.max(1));
    let (commands, commands_out) = mpsc::channel(COMMANDS);
    let counters = Arc::new(Counters { name, blocked_ns: AtomicU64::new(0), full: AtomicU64::new(0) });
    (Mailbox { data, commands, counters }, Inbox { data: data_out, commands: commands_out })
}

struct Counters {
    name: &'static str,
    blocked_ns: AtomicU64,
    full: AtomicU64,
}

/// The sending end. Clones send to the same inbox.
pub struct Mailbox<M> {
    data: mpsc::Sender<M>,
    commands: mpsc::Sender<M>,
    counters: Arc<Counters>,
}

/// The receiver is gone for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the receiver of mailbox `{0}` is gone")]
pub struct Closed(&'static str);

/// Why a message was not taken at once; it comes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<M> {
    /// No room now.
    #[error("the mailbox is full")]
    Full(M),
    /// The receiver is gone for good.
    #[error("the receiver is gone")]
    Closed(M),
}

/// A mailbox in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Its name.
    pub name: &'static str,
    /// Data messages that wait.
    pub depth: usize,
    /// Data messages that may wait.
    pub capacity: usize,
    /// How long senders waited for room, in all, ns.
    pub blocked_ns: u64,
    /// How often there was no room.
    pub full: u64,
}

impl<M> Mailbox<M> {
    /// Sends data; waits while there is no room.
    ///
    /// # Errors
    /// The receiver is gone.
    pub async fn send(&self, message: M) -> Result<(), Closed> {
        let message = match self.try_send(message) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(self.closed()),
            Err(TrySendError::Full(message)) => message,
        };
        let since = Instant::now();
        let sent = self.data.send(message).await;
        let waited = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.blocked_ns.fetch_add(waited, Ordering::Relaxed);
        sent.map_err(|_| self.closed())
    }

    /// Sends data if there is room.
    ///
    /// # Errors
    /// There is none (counted), or the receiver is gone; the message comes back.
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        self.data.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(message) => TrySendError::Closed(message),
            mpsc::error::TrySendError::Full(message) => {
                self.counters.full.fetch_add(1, Ordering::Relaxed);
                TrySendError::Full(message)
            }
        })
    }

    /// Sends a command, which is received before any data that waits.
    ///
    /// # Errors
    /// The receiver is gone.
    pub async fn command(&self, message: M) -> Result<(), Closed> {
        self.commands.send(message).await.map_err(|_| self.closed())
    }

    /// Sends, as data, what `message` makes of a place for the reply, and waits for the reply.
    ///
    /// # Errors
    /// The receiver is gone, or dropped the message without a reply.
    pub async fn ask<R>(&self, message: impl FnOnce(oneshot::Sender<R>) -> M) -> Result<R, Closed> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply)).await?;
        answer.await.map_err(|_| self.closed())
    }

    /// True once the receiver is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.data.is_closed()
    }

    /// Where it stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let capacity = self.data.max_capacity();
        Stats {
            name: self.counters.name,
            depth: capacity.saturating_sub(self.data.capacity()),
            capacity,
            blocked_ns: self.counters.blocked_ns.load(Ordering::Relaxed),
            full: self.counters.full.load(Ordering::Relaxed),
        }
    }

    fn closed(&self) -> Closed {
        Closed(self.counters.name)
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { data: self.data.clone(), commands: self.commands.clone(), counters: Arc::clone(&self.counters) }
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

/// The receiving end; one actor has it.
#[derive(Debug)]
pub struct Inbox<M> {
    data: mpsc::Receiver<M>,
    commands: mpsc::Receiver<M>,
}

impl<M> Inbox<M> {
    /// The next message, commands first; `None` once all mailboxes are gone and nothing waits. Safe to cancel.
    pub async fn recv(&mut self) -> Option<M> {
        tokio::select! {
            biased;
            Some(message) = self.commands.recv() => Some(message),
            Some(message) = self.data.recv() => Some(message),
            else => None,
        }
    }

    /// A message that waits already, commands first.
    pub fn try_recv(&mut self) -> Option<M> {
        self.commands.try_recv().or_else(|_| self.data.try_recv()).ok()
    }

    /// Takes no more messages; those that wait can still be received.
    pub fn close(&mut self) {
        self.commands.close();
        self.data.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn commands_overtake_data() {
        let (mailbox, mut inbox) = mailbox("test", 4);
        mailbox.send(1).await.unwrap();
        mailbox.send(2).await.unwrap();
        mailbox.command(9).await.unwrap();
        drop(mailbox);
        let mut got = Vec::new();
        while let Some(message) = inbox.recv().await {
            got.push(message);
        }
        assert_eq!(got, [9, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_mailbox_makes_its_sender_wait_and_counts_it() {
        let (mailbox, mut inbox) = mailbox("test", 1);
        mailbox.send(1).await.unwrap();
        assert_eq!(mailbox.try_send(2), Err(TrySendError::Full(2)));
        let slow = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            inbox.recv().await
        };
        let (sent, received) = tokio::join!(mailbox.send(3), slow);
        assert_eq!((sent, received), (Ok(()), Some(1)));
        let stats = mailbox.stats();
        assert_eq!((stats.depth, stats.capacity, stats.full), (1, 1, 2));
        assert!((3_000_000_000..3_100_000_000).contains(&stats.blocked_ns), "{stats:?}");
    }

    #[tokio::test]
    async fn an_answer_or_the_news_that_there_is_none() {
        let (mailbox, mut inbox) = mailbox::<oneshot::Sender<u32>>("test", 1);
        let answer = async { inbox.recv().await.unwrap().send(42).unwrap() };
        assert_eq!(tokio::join!(mailbox.ask(|reply| reply), answer).0, Ok(42));
        drop(inbox);
        assert_eq!(mailbox.ask(|reply| reply).await.unwrap_err().to_string(), "the receiver of mailbox `test` is gone");
        assert!(mailbox.is_closed());
    }
}
