//! Tasks: each has a kind, which says what cancellation and failure do; all end before a deadline.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::AbortHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::unwind;

/// What cancellation does to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// It watches a [`Tasks::token`] and ends by itself, within the deadline.
    Wait,
    /// It is dropped at its next await.
    Abort,
}

/// What a task's error or panic does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It is logged.
    Log,
    /// The node shuts down: see [`Tasks::failed`].
    ShutDown,
}

/// The kind of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// What cancellation does.
    pub on_cancel: OnCancel,
    /// What failure does.
    pub on_failure: OnFailure,
}

impl Kind {
    /// Part of a role that the node can't do without: drains on cancellation, takes the node down with it.
    pub const ROLE: Self = Self { on_cancel: OnCancel::Wait, on_failure: OnFailure::ShutDown };
    /// Serves one peer: its failure is that peer's, and it drains.
    pub const CONNECTION: Self = Self { on_cancel: OnCancel::Wait, on_failure: OnFailure::Log };
    /// Helps but holds nothing that would be lost.
    pub const BACKGROUND: Self = Self { on_cancel: OnCancel::Abort, on_failure: OnFailure::Log };
}

/// A task that failed: its name and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task `{task}` failed: {why}")]
pub struct TaskFailure {
    /// Its name.
    pub task: &'static str,
    /// The error, or the message of the panic.
    pub why: String,
}

/// How a shutdown went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Tasks that ended within the deadline.
    pub finished: usize,
    /// Names of those that had to be aborted (or, where they block a thread, were left behind).
    pub aborted: Vec<&'static str>,
}

/// Spawns tasks, and ends them all. Clones are the same set.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    root: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Running>,
    failure: watch::Sender<Option<TaskFailure>>,
}

#[derive(Default)]
struct Running {
    next: u64,
    tasks: BTreeMap<u64, (&'static str, Option<AbortHandle>)>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            root: CancellationToken::new(),
            tracker: TaskTracker::new(),
            running: Mutex::default(),
            failure: watch::Sender::new(None),
        }))
    }

    /// An empty set whose failures are also this one's, and which is cancelled with it. Shutting it down ends only its own
    /// tasks; shutting down this one doesn't wait for them.
    #[must_use]
    pub fn group(&self) -> Self {
        Self(Arc::new(Inner {
            root: self.0.root.child_token(),
            tracker: TaskTracker::new(),
            running: Mutex::default(),
            failure: self.0.failure.clone(),
        }))
    }

    /// Spawns a task on the runtime. After [`Tasks::shutdown`] began, one that waits for cancellation sees it at once.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn spawn<E: fmt::Display>(
        &self,
        kind: Kind,
        name: &'static str,
        future: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let entry = self.enter(name);
        let (id, cancelled) = (entry.id, self.0.root.clone());
        let task = self.0.tracker.track_future(async move {
            let run = unwind::catch(async {
                match kind.on_cancel {
                    OnCancel::Wait => Some(future.await),
                    OnCancel::Abort => cancelled.run_until_cancelled(future).await,
                }
            });
            let outcome = run.await;
            entry.leave(kind, outcome.map(|ended| ended.unwrap_or(Ok(()))));
        });
        let handle = tokio::spawn(task).abort_handle();
        if let Some((_, abort)) = self.running().tasks.get_mut(&id) {
            *abort = Some(handle);
        }
    }

    /// Runs a function that blocks on a thread of its own. It can't be aborted: it has to watch a token.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn spawn_blocking<E: fmt::Display>(
        &self,
        kind: Kind,
        name: &'static str,
        run: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) {
        let entry = self.enter(name);
        let token = self.0.tracker.token();
        tokio::task::spawn_blocking(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            entry.leave(kind, outcome.map_err(|panic| unwind::message(panic.as_ref())));
            drop(token);
        });
    }

    /// A token that is cancelled when shutdown begins.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.0.root.child_token()
    }

    /// Waits for the first failure of a task whose kind says that it shuts the node down.
    pub async fn failed(&self) -> TaskFailure {
        let mut failure = self.0.failure.subscribe();
        loop {
            if let Some(failure) = failure.borrow_and_update().clone() {
                return failure;
            }
            if failure.changed().await.is_err() {
                // The sender lives in `self`, so this can't happen; never answering is the honest reply if it did.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Cancels all tasks and waits for them until `deadline` has passed; then aborts and names the rest.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let before = self.running().tasks.len();
        self.0.root.cancel();
        self.0.tracker.close();
        let in_time = tokio::time::timeout(deadline, self.0.tracker.wait()).await.is_ok();
        let left: Vec<_> = std::mem::take(&mut self.running().tasks).into_values().collect();
        let aborted: Vec<_> = left.iter().map(|(name, _)| *name).collect();
        left.into_iter().filter_map(|(_, abort)| abort).for_each(|handle| handle.abort());
        if !in_time {
            tracing::warn!(tasks = ?aborted, ?deadline, "tasks missed the shutdown deadline");
        }
        ShutdownReport { finished: before.saturating_sub(aborted.len()), aborted }
    }

    fn enter(&self, name: &'static str) -> Entry {
        let mut running = self.running();
        let id = running.next;
        running.next += 1;
        running.tasks.insert(id, (name, None));
        Entry { tasks: self.clone(), id, name }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.running().tasks.values().map(|(name, _)| *name).collect();
        f.debug_struct("Tasks").field("running", &names).finish()
    }
}

/// A task's place among the running ones; left when dropped, too (an aborted task).
struct Entry {
    tasks: Tasks,
    id: u64,
    name: &'static str,
}

impl Entry {
    fn leave<E: fmt::Display>(&self, kind: Kind, outcome: Result<Result<(), E>, String>) {
        let why = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("panicked: {panic}"),
        };
        match kind.on_failure {
            OnFailure::Log => tracing::warn!(task = self.name, %why, "task failed"),
            OnFailure::ShutDown => {
                tracing::error!(task = self.name, %why, "task failed; the node shuts down");
                let failure = TaskFailure { task: self.name, why };
                self.tasks.0.failure.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert(failure);
                    is_first
                });
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tasks.running().tasks.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Ended = Result<(), String>;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_those_that_drain_and_names_those_that_hang() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn(Kind::ROLE, "drains", async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ended::Ok(())
        });
        tasks.spawn(Kind::BACKGROUND, "dropped", std::future::pending::<Ended>());
        tasks.spawn(Kind::CONNECTION, "hangs", std::future::pending::<Ended>());
        let report = tasks.shutdown(Duration::from_secs(5)).await;
        assert_eq!(report, ShutdownReport { finished: 2, aborted: vec!["hangs"] });
        tokio::task::yield_now().await;
        assert_eq!(tasks.shutdown(Duration::from_secs(1)).await.aborted, Vec::<&str>::new());
    }

    #[tokio::test]
    async fn the_first_fatal_failure_is_told_and_others_are_not() {
        let tasks = Tasks::new();
        tasks.spawn(Kind::CONNECTION, "peer", async { Ended::Err("reset".into()) });
        tasks.spawn(Kind::ROLE, "fine", async { Ended::Ok(()) });
        tasks.spawn(Kind::ROLE, "core", async { if true { panic!("bug {}", 7) } else { Ended::Ok(()) } });
        let failure = tasks.failed().await;
        assert_eq!(failure.to_string(), "task `core` failed: panicked: bug 7");
        tasks.spawn_blocking(Kind::ROLE, "later", || Ended::Err("too late to be first".into()));
        tasks.shutdown(Duration::from_secs(5)).await;
        assert_eq!(tasks.failed().await.task, "core");
    }

    #[tokio::test]
    async fn a_group_ends_by_itself_and_fails_for_all() {
        let (tasks, other) = (Tasks::new(), Tasks::new());
        let (first, second) = (tasks.group(), tasks.group());
        for (group, name) in [(&first, "first"), (&second, "second")] {
            let token = group.token();
            group.spawn(Kind::ROLE, name, async move {
                token.cancelled().await;
                if name == "first" { Ended::Err("on its way out".into()) } else { Ended::Ok(()) }
            });
        }
        assert_eq!(first.shutdown(Duration::from_secs(5)).await, ShutdownReport { finished: 1, aborted: vec![] });
        assert_eq!(tasks.failed().await.task, "first");
        assert!(!second.token().is_cancelled() && !other.token().is_cancelled());
        tasks.shutdown(Duration::from_secs(5)).await;
        assert!(second.token().is_cancelled());
        assert_eq!(second.shutdown(Duration::from_secs(5)).await.aborted, Vec::<&str>::new());
    }

    #[tokio::test]
    async fn a_task_spawned_after_shutdown_sees_it() {
        let tasks = Tasks::new();
        tasks.shutdown(Duration::from_secs(1)).await;
        let token = tasks.token();
        tasks.spawn(Kind::ROLE, "late", async move {
            token.cancelled().await;
            Ended::Ok(())
        });
        assert_eq!(tasks.shutdown(Duration::from_secs(1)).await.aborted, Vec::<&str>::new());
    }
}
