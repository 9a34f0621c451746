//! Forgets what is old enough, kind by kind, in small steps in the background.

use std::{sync::Arc, time::Duration};

use spikewatch_actors::{Seams, task::Kind};
use tokio::time::{interval, sleep};

use crate::store::{Kept, Store, StoreError, Term};

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(600);
/// Pause between two steps: commits go first.
const PAUSE: Duration = Duration::from_millis(100);

const DAY: Duration = Duration::from_secs(86_400);

/// How long what is stored is kept, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Windows, which baselines are rebuilt from.
    pub windows: Duration,
    /// Anomaly records.
    pub records: Duration,
    /// Alerts.
    pub alerts: Duration,
    /// Executions of rules.
    pub executions: Duration,
    /// What sinks took or refused.
    pub outbox: Duration,
    /// Snapshots of baselines.
    pub snapshots: Duration,
}

impl Default for Retention {
    /// Five weeks of windows, a good year of what came out of them, a week of what only serves operation.
    fn default() -> Self {
        Self {
            windows: 35 * DAY,
            records: 400 * DAY,
            alerts: 400 * DAY,
            executions: 90 * DAY,
            outbox: 7 * DAY,
            snapshots: 7 * DAY,
        }
    }
}

impl Retention {
    fn of(&self, kept: Kept) -> Duration {
        match kept {
            Kept::Windows => self.windows,
            Kept::Records => self.records,
            Kept::Alerts => self.alerts,
            Kept::Executions => self.executions,
            Kept::Outbox => self.outbox,
            Kept::Snapshots => self.snapshots,
        }
    }
}

/// Rows of one transaction. Parts of snapshots are large.
fn step(kept: Kept) -> u32 {
    if kept == Kept::Snapshots { 8 } else { 500 }
}

/// Starts it, unless time is what recorded traffic says.
pub(crate) fn start(store: Arc<dyn Store>, term: Term, keep: Retention, seams: &Seams) {
    if seams.clock.is_event_time() {
        return;
    }
    let clock = seams.clock.clone();
    seams.tasks.spawn(Kind::BACKGROUND, "retention", async move {
        let mut rounds = interval(ROUND);
        loop {
            rounds.tick().await;
            for kept in Kept::ALL {
                let age = u64::try_from(keep.of(kept).as_millis()).unwrap_or(u64::MAX);
                let before = clock.now_ms().saturating_sub(age);
                while store.prune(term, kept, before, step(kept)).await? >= u64::from(step(kept)) {
                    sleep(PAUSE).await;
                }
            }
        }
        #[expect(unreachable_code, reason = "names the type of the error")]
        Ok::<(), StoreError>(())
    });
}
