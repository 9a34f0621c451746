//! The way from a detector to the store: quick, slow, or cut. Answers can be lost on the way back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use spikewatch_actors::entropy::Entropy;
use spikewatch_detector::store::{Answer, StoreError, Term, Write};
use spikewatch_tests::memory_store::Line;
use tokio::time::sleep;

use crate::{oracle::Oracle, traffic::pick};

/// How long a detector waits for a store that doesn't answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub(crate) struct StoreLine {
    oracle: Oracle,
    entropy: Entropy,
    cut: AtomicBool,
    /// Longest time that the store takes, ms.
    slowness_ms: AtomicU64,
}

impl StoreLine {
    pub(crate) fn new(oracle: Oracle, entropy: Entropy) -> Arc<Self> {
        Arc::new(Self { oracle, entropy, cut: false.into(), slowness_ms: 4.into() })
    }

    pub(crate) fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Relaxed);
    }

    pub(crate) fn set_slowness(&self, ms: u64) {
        self.slowness_ms.store(ms, Relaxed);
    }

    async fn pass(&self) -> Result<(), StoreError> {
        sleep(Duration::from_millis(pick(&self.entropy, self.slowness_ms.load(Relaxed)))).await;
        if !self.cut.load(Relaxed) {
            return Ok(());
        }
        sleep(PATIENCE).await;
        Err(StoreError::Silent { seconds: PATIENCE.as_secs() })
    }
}

impl Line for StoreLine {
    fn there(&self) -> Answer<'_, ()> {
        Box::pin(self.pass())
    }

    fn back(&self) -> Answer<'_, ()> {
        Box::pin(self.pass())
    }

    fn applied(&self, term: Term, writes: &[Write]) {
        self.oracle.applied(term, writes);
    }
}
