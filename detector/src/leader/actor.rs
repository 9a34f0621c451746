//! Runs the state machine: asks the store, begins and ends reigns, shows who leads.

use std::{future::ready, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use spikewatch_actors::task::{Kind, TaskFailure};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{Action, Event, Leader, Plan, Reign, State, Timing, standby::Standby};
use crate::store::{StoreError, Term};

/// How long giving the lease back may take.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Who leads, as this detector sees it.
#[derive(Clone)]
pub(crate) enum Leadership {
    /// Another does, at this address if it is known.
    Standby { leader: Option<String> },
    /// This one does.
    Leading(Arc<Reign>),
}

/// How a detector takes part in leading.
pub(crate) struct Lead {
    pub(crate) plan: Plan,
    /// What it calls itself in the lease: where others reach it, a blank, and what tells it from others that claim the
    /// same address.
    pub(crate) holder: String,
    pub(crate) lease: Duration,
}

/// Why a detector can't go on.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Task(#[from] TaskFailure),
}

/// Starts it. Comes back once it is known who leads: where nobody else is, that is this one.
///
/// # Errors
/// The store can't be read.
pub(crate) async fn lead(lead: Lead) -> Result<watch::Receiver<Leadership>, StoreError> {
    let tasks = lead.plan.seams.tasks.clone();
    let (shown, watched) = watch::channel(Leadership::Standby { leader: None });
    let core = Leader::new(Timing { lease: lead.lease }, 0);
    let mut actor = Actor { lead, core, began: Instant::now(), asking: None, reign: None, standby: None, shown };
    let claim = actor.core.on(Event::Tick, 0);
    debug_assert_eq!(claim, [Action::Claim], "it begins by asking");
    let store = &actor.lead.plan.store;
    let claim = store.claim(&actor.lead.holder, actor.lead.lease).await?;
    actor.take(Event::Claimed(claim)).await?;
    tasks.spawn(Kind::ROLE, "leader", actor.run());
    Ok(watched)
}

struct Actor {
    lead: Lead,
    core: Leader,
    /// When the core's clock stood at 0.
    began: Instant,
    /// A question to the store that waits for its answer.
    asking: Option<BoxFuture<'static, Event>>,
    reign: Option<Arc<Reign>>,
    standby: Option<Standby>,
    shown: watch::Sender<Leadership>,
}

impl Actor {
    async fn run(mut self) -> Result<(), Fatal> {
        let ended = self.lead_until_stopped().await;
        self.shown.send_replace(Leadership::Standby { leader: None });
        if let Some(reign) = self.reign.take() {
            reign.end().await;
        }
        if let Some(standby) = self.standby.take() {
            standby.end().await;
        }
        ended
    }

    async fn lead_until_stopped(&mut self) -> Result<(), Fatal> {
        let stop = self.lead.plan.seams.tasks.token();
        loop {
            let stopping = self.core.state() == &State::Stopping;
            if stopping && self.asking.is_none() {
                return Ok(());
            }
            let deadline = self.core.deadline().map(|ms| self.began + Duration::from_millis(ms));
            let event = tokio::select! {
                () = stop.cancelled(), if !stopping => Event::Stop,
                event = answer(&mut self.asking) => {
                    self.asking = None;
                    event
                }
                failure = failed(self.reign.as_deref()) => self.judge(failure).await?,
                () = sleep_until(deadline.unwrap_or(self.began)), if deadline.is_some() => Event::Tick,
            };
            self.take(event).await?;
        }
    }

    /// What a failure within the reign means.
    async fn judge(&mut self, failure: TaskFailure) -> Result<Event, Fatal> {
        if let State::Leading(term) = *self.core.state()
            && let Err(error) = self.lead.plan.store.renew(term, self.lead.lease).await
            && error.is_deposed()
        {
            tracing::warn!(%error, "a task of this reign found out");
            return Ok(Event::Deposed);
        }
        // A replay that can't go on has to say so.
        if self.lead.plan.seams.clock.is_event_time() {
            return Err(failure.into());
        }
        tracing::error!(%failure, "this reign failed");
        Ok(Event::Failed)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes an event, and those that follow from what it makes the core want.
    async fn take(&mut self, event: Event) -> Result<(), StoreError> {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.core.on(event, self.now_ms()) {
                events.extend(self.act(action).await?);
            }
        }
        self.show();
        Ok(())
    }

    async fn act(&mut self, action: Action) -> Result<Option<Event>, StoreError> {
        match action {
            Action::Claim => self.asking = Some(self.claim()),
            Action::Renew(term) => self.asking = Some(self.renew(term)),
            Action::Begin(term) => return self.begin(term).await,
            Action::End => {
                self.asking = None;
                if let Some(reign) = self.reign.take() {
                    self.shown.send_replace(Leadership::Standby { leader: None });
                    reign.end().await;
                    tracing::info!("this detector leads no more");
                }
            }
            Action::Release(term) => {
                let released = timeout(RELEASE_TIMEOUT, self.lead.plan.store.release(term)).await;
                if let Ok(Err(error)) = released {
                    tracing::info!(%error, "the lease was not given back; it ends by itself");
                }
            }
        }
        Ok(None)
    }

    fn claim(&self) -> BoxFuture<'static, Event> {
        let (store, holder) = (Arc::clone(&self.lead.plan.store), self.lead.holder.clone());
        let lease = self.lead.lease;
        async move {
            match store.claim(&holder, lease).await {
                Ok(claim) => Event::Claimed(claim),
                Err(error) => {
                    tracing::warn!(%error, "the store does not say who leads");
                    Event::Unanswered
                }
            }
        }
        .boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'static, Event> {
        let (store, lease) = (Arc::clone(&self.lead.plan.store), self.lead.lease);
        async move {
            match store.renew(term, lease).await {
                Ok(()) => Event::Renewed,
                Err(error) if error.is_deposed() => Event::Deposed,
                Err(error) => {
                    tracing::warn!(%error, "the lease is not renewed");
                    Event::Unanswered
                }
            }
        }
        .boxed()
    }

    async fn begin(&mut self, term: Term) -> Result<Option<Event>, StoreError> {
        let warm = match self.standby.take() {
            Some(standby) => standby.end().boxed(),
            None => ready(None).boxed(),
        };
        let began = Instant::now();
        match Reign::begin(&self.lead.plan, term, warm).await {
            Ok(reign) => {
                tracing::info!(%term, took = ?began.elapsed(), "this detector leads");
                self.reign = Some(Arc::new(reign));
                Ok(Some(Event::Began))
            }
            Err(error) if error.is_deposed() => Ok(Some(Event::Deposed)),
            Err(error @ (StoreError::Damaged { .. } | StoreError::OtherShape { .. })) => Err(error),
            Err(error) => {
                tracing::error!(%error, "the term was taken, but the store can't be read");
                Ok(Some(Event::Failed))
            }
        }
    }

    /// Shows where it stands, and stands by warm while another leads.
    fn show(&mut self) {
        let now = match (self.core.state(), &self.reign) {
            (State::Leading(_), Some(reign)) => Leadership::Leading(Arc::clone(reign)),
            (State::Standby { leader }, _) => {
                if leader.is_some() && self.standby.is_none() {
                    tracing::info!(leader, "this detector stands by");
                    self.standby = Some(Standby::begin(&self.lead.plan.store, &self.lead.plan.origin));
                }
                Leadership::Standby { leader: leader.clone() }
            }
            _ => Leadership::Standby { leader: None },
        };
        self.shown.send_if_modified(|shown| {
            let changed = match (&*shown, &now) {
                (Leadership::Leading(a), Leadership::Leading(b)) => !Arc::ptr_eq(a, b),
                (Leadership::Standby { leader: a }, Leadership::Standby { leader: b }) => a != b,
                _ => true,
            };
            *shown = now;
            changed
        });
    }
}

/// The answer to what was asked; never, if nothing was.
async fn answer(asking: &mut Option<BoxFuture<'static, Event>>) -> Event {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

/// Why the reign failed; never, if there is none.
async fn failed(reign: Option<&Reign>) -> TaskFailure {
    match reign {
        Some(reign) => reign.tasks.failed().await,
        None => std::future::pending().await,
    }
}
