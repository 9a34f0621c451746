//! Actors under supervision: built by a factory, rebuilt with back-off after an error, a panic or a freeze. The inbox is
//! the supervisor's, so it survives, and no sender notices; what the actor knew is lost, and the factory decides what a
//! fresh one starts with.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    mailbox::Inbox,
    task::{Kind, Tasks},
    unwind,
};

/// Handles one message after another; nothing else touches its state.
pub trait Actor: Send + 'static {
    /// What it is sent.
    type Message: Send + 'static;
    /// What makes it unfit to go on.
    type Error: fmt::Display + Send;

    /// Handles one message.
    fn handle(&mut self, message: Self::Message) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Called every [`Policy::tick`], between messages.
    fn tick(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        std::future::ready(Ok(()))
    }
}

/// When and how an actor is restarted.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Wait before the first restart; each further one waits twice as long.
    pub first_wait: Duration,
    /// The longest wait. An actor that ran this long without fault starts over with the first wait.
    pub longest_wait: Duration,
    /// One message (or tick) that takes longer than this is a freeze. An actor that blocks its thread can't be seen
    /// by this; one that awaits what never comes can.
    pub freeze_after: Duration,
    /// How often [`Actor::tick`] is called; never if `None`.
    pub tick: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(30),
            freeze_after: Duration::from_secs(60),
            tick: None,
        }
    }
}

/// Why actors were restarted, in numbers. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Restarts(Arc<[AtomicU64; 3]>);

impl Restarts {
    /// After errors.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.0[0].load(Ordering::Relaxed)
    }

    /// After panics.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.0[1].load(Ordering::Relaxed)
    }

    /// After freezes.
    #[must_use]
    pub fn freezes(&self) -> u64 {
        self.0[2].load(Ordering::Relaxed)
    }
}

/// Why one incarnation of an actor ended.
enum Fault {
    Error(String),
    Panic(String),
    Freeze(Duration),
}

/// Spawns the actor that `factory` makes. It ends when all mailboxes of `inbox` are gone, or at shutdown, after what
/// waits in the inbox by then has been handled.
pub fn supervise<A: Actor>(
    tasks: &Tasks,
    kind: Kind,
    name: &'static str,
    policy: Policy,
    restarts: &Restarts,
    mut inbox: Inbox<A::Message>,
    mut factory: impl FnMut() -> A + Send + 'static,
) {
    let (token, restarts) = (tasks.token(), restarts.clone());
    tasks.spawn(kind, name, async move {
        let mut wait = policy.first_wait;
        loop {
            let began = tokio::time::Instant::now();
            let Err(fault) = run(factory(), &mut inbox, &policy, &token).await else {
                return Ok::<(), std::convert::Infallible>(());
            };
            let (index, why) = match fault {
                Fault::Error(why) => (0, why),
                Fault::Panic(why) => (1, format!("panicked: {why}")),
                Fault::Freeze(limit) => (2, format!("made no progress for {limit:?}")),
            };
            restarts.0[index].fetch_add(1, Ordering::Relaxed);
            if began.elapsed() >= policy.longest_wait {
                wait = policy.first_wait;
            }
            tracing::error!(actor = name, %why, ?wait, "actor failed; it is restarted");
            // At shutdown the rest of the inbox is still tried, but without waiting.
            let _ = tokio::time::timeout(wait, token.cancelled()).await;
            wait = (wait * 2).min(policy.longest_wait);
        }
    });
}

/// Runs one incarnation; `Ok` means that there is nothing left to do.
async fn run<A: Actor>(
    mut actor: A,
    inbox: &mut Inbox<A::Message>,
    policy: &Policy,
    token: &tokio_util::sync::CancellationToken,
) -> Result<(), Fault> {
    let mut ticks = tokio::time::interval(policy.tick.unwrap_or(Duration::from_secs(3600)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        tokio::select! {
            biased;
            () = token.cancelled() => {
                inbox.close();
                match inbox.recv().await {
                    Some(message) => watched(policy, actor.handle(message)).await?,
                    None => return Ok(()),
                }
            }
            _ = ticks.tick(), if policy.tick.is_some() => watched(policy, actor.tick()).await?,
            message = inbox.recv() => match message {
                Some(message) => watched(policy, actor.handle(message)).await?,
                None => return Ok(()),
            },
        }
    }
}

/// One step of an actor under the three watches.
async fn watched<E: fmt::Display>(policy: &Policy, step: impl Future<Output = Result<(), E>>) -> Result<(), Fault> {
    match tokio::time::timeout(policy.freeze_after, unwind::catch(step)).await {
        Err(_) => Err(Fault::Freeze(policy.freeze_after)),
        Ok(Err(panic)) => Err(Fault::Panic(panic)),
        Ok(Ok(Err(error))) => Err(Fault::Error(error.to_string())),
        Ok(Ok(Ok(()))) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::mailbox::{Mailbox, mailbox};

    enum Message {
        Add(u32),
        Sum(oneshot::Sender<u32>),
        Fail,
        Panic,
        Freeze,
    }

    #[derive(Default)]
    struct Adder {
        sum: u32,
        ticked: Option<mpsc::UnboundedSender<u32>>,
    }

    impl Actor for Adder {
        type Message = Message;
        type Error = String;

        async fn handle(&mut self, message: Message) -> Result<(), String> {
            match message {
                Message::Add(number) => self.sum += number,
                Message::Sum(reply) => drop(reply.send(self.sum)),
                Message::Fail => return Err("broken".into()),
                Message::Panic => panic!("broken"),
                Message::Freeze => std::future::pending().await,
            }
            Ok(())
        }

        async fn tick(&mut self) -> Result<(), String> {
            if let Some(ticked) = &self.ticked {
                let _ = ticked.send(self.sum);
            }
            Ok(())
        }
    }

    fn start(tasks: &Tasks, policy: Policy) -> (Mailbox<Message>, Restarts) {
        let (sender, inbox) = mailbox("adder", 16);
        let restarts = Restarts::default();
        supervise(tasks, Kind::ROLE, "adder", policy, &restarts, inbox, Adder::default);
        (sender, restarts)
    }

    #[tokio::test(start_paused = true)]
    async fn the_mailbox_survives_errors_panics_and_freezes() {
        let tasks = Tasks::new();
        let (adder, restarts) = start(&tasks, Policy::default());
        for fault in [Message::Fail, Message::Panic, Message::Freeze] {
            adder.send(Message::Add(5)).await.unwrap();
            adder.send(fault).await.unwrap();
            adder.send(Message::Add(2)).await.unwrap();
            assert_eq!(adder.ask(Message::Sum).await, Ok(2), "a fresh actor, and the message behind the fault");
            adder.send(Message::Fail).await.unwrap();
        }
        assert_eq!(adder.ask(Message::Sum).await, Ok(0));
        assert_eq!((restarts.errors(), restarts.panics(), restarts.freezes()), (4, 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_back_off_up_to_a_limit() {
        let tasks = Tasks::new();
        let policy = Policy { longest_wait: Duration::from_millis(400), ..Policy::default() };
        let (adder, _) = start(&tasks, policy);
        let began = tokio::time::Instant::now();
        for _ in 0..5 {
            adder.send(Message::Fail).await.unwrap();
        }
        adder.ask(Message::Sum).await.unwrap();
        let waited = began.elapsed().as_millis();
        assert!((1500..1600).contains(&waited), "100 + 200 + 400 + 400 + 400, not {waited}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_at_shutdown_is_handled() {
        let tasks = Tasks::new();
        let (adder, _) = start(&tasks, Policy::default());
        let (reply, sum) = oneshot::channel();
        adder.send(Message::Add(3)).await.unwrap();
        adder.send(Message::Sum(reply)).await.unwrap();
        let report = tasks.shutdown(Duration::from_secs(1)).await;
        assert_eq!((sum.await, report.aborted.len()), (Ok(3), 0));
        assert!(adder.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_actor_ticks_between_messages() {
        let tasks = Tasks::new();
        let (sender, inbox) = mailbox("adder", 16);
        let (ticked, mut ticks) = mpsc::unbounded_channel();
        let policy = Policy { tick: Some(Duration::from_secs(1)), ..Policy::default() };
        let factory = move || Adder { sum: 0, ticked: Some(ticked.clone()) };
        supervise(&tasks, Kind::ROLE, "adder", policy, &Restarts::default(), inbox, factory);
        sender.send(Message::Add(3)).await.unwrap();
        assert_eq!(ticks.recv().await, Some(3));
        sender.send(Message::Add(4)).await.unwrap();
        assert_eq!(ticks.recv().await, Some(7));
    }
}
