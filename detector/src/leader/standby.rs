//! Standing by warm: the commit log is followed and scored into memory, up to where the leader has scored, so that the
//! one that takes over need not begin at the last snapshot.

use std::{sync::Arc, time::Duration};

use spikewatch_actors::task::{Kind, Tasks};
use tokio::sync::oneshot;

use crate::{
    analysis::baselines::{Baselines, Origin},
    store::{Store, StoreError},
};

/// How often it is looked for what the leader has scored.
const POLL: Duration = Duration::from_secs(2);
/// How long the bucket at hand may take to be scored when it has to end.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// Follows in a task until it is ended.
pub(super) struct Standby {
    tasks: Tasks,
    warm: oneshot::Receiver<Baselines>,
}

impl Standby {
    /// Begins with nothing known; the newest usable snapshot comes first.
    pub(super) fn begin(store: &Arc<dyn Store>, origin: &Origin) -> Self {
        let tasks = Tasks::new();
        let (done, warm) = oneshot::channel();
        let (store, mut baselines, stop) = (Arc::clone(store), Baselines::new(origin.clone()), tasks.token());
        tasks.spawn(Kind::CONNECTION, "standby", async move {
            while !stop.is_cancelled() {
                match follow(&*store, &mut baselines, &stop).await {
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(%error, "the standby can't follow the commit log; it begins anew");
                        baselines = Baselines::new(baselines.into_origin());
                    }
                }
                stop.run_until_cancelled(tokio::time::sleep(POLL)).await;
            }
            // Nobody takes it if the node stops.
            let _ = done.send(baselines);
            Ok::<(), StoreError>(())
        });
        Self { tasks, warm }
    }

    /// What it has learnt; `None` if nothing came of it.
    pub(super) async fn end(self) -> Option<Baselines> {
        self.tasks.shutdown(END_TIMEOUT).await;
        self.warm.await.ok()
    }
}

async fn follow(
    store: &dyn Store,
    baselines: &mut Baselines,
    stop: &tokio_util::sync::CancellationToken,
) -> Result<(), StoreError> {
    match store.resume().await?.scored {
        Some(scored) => baselines.follow(store, scored, stop).await.map(drop),
        None => Ok(()),
    }
}
