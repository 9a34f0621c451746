//! Forgets windows that are old enough, in small steps in the background.

use std::{sync::Arc, time::Duration};

use spikewatch_actors::{Seams, task::Kind};
use tokio::time::{interval, sleep};

use crate::store::{Kept, Store, StoreError, Term};

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(600);
/// Rows of one transaction, and the pause after it: commits go first.
const STEP: (u32, Duration) = (500, Duration::from_millis(100));

/// Starts it, unless time is what recorded traffic says.
pub(crate) fn start(store: Arc<dyn Store>, term: Term, keep: Duration, seams: &Seams) {
    if seams.clock.is_event_time() {
        return;
    }
    let clock = seams.clock.clone();
    let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
    seams.tasks.spawn(Kind::BACKGROUND, "retention", async move {
        let mut rounds = interval(ROUND);
        loop {
            rounds.tick().await;
            let before = clock.now_ms().saturating_sub(keep);
            while store.prune(term, Kept::Windows, before, STEP.0).await? >= u64::from(STEP.0) {
                sleep(STEP.1).await;
            }
        }
        #[expect(unreachable_code, reason = "names the type of the error")]
        Ok::<(), StoreError>(())
    });
}
