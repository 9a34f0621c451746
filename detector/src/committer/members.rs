//! The members of the roster: who is silent, who is back, who is taken out.

use std::{collections::BTreeMap, sync::Arc};

use spikewatch_domain::key::SiteName;
use spikewatch_proto::convert::cluster::Incarnation;
use tokio::sync::oneshot;

use super::Committer;
use crate::{
    roster::Turn,
    store::{Enrolled, StoreError},
};

/// What is asked about the roster.
pub(crate) enum RosterRequest {
    /// All members.
    List(oneshot::Sender<BTreeMap<Incarnation, Enrolled>>),
    /// Take a collector out. Answered with whether it was in.
    Retire(SiteName, SiteName, oneshot::Sender<Result<bool, StoreError>>),
}

impl Committer {
    /// Looks who has fallen silent, and who is back.
    pub(super) async fn review(&mut self) -> Result<(), StoreError> {
        let (frontier, now_ms) = (self.commits.frontier(), self.seams.clock.now_ms());
        let changed = self.roster.review(self.commits.members(), frontier, self.patience, now_ms);
        for (of, member, turn) in &changed {
            let (collector, last_bucket) = (of.to_string(), member.last_bucket);
            match turn {
                Some(Turn::Silent) => {
                    self.counters.fell_silent.add(1);
                    tracing::warn!(collector, last_bucket, "collector_silent: its site is incomplete without it");
                }
                Some(Turn::Back) => tracing::info!(collector, "a collector that was silent is back"),
                Some(Turn::Retired) => tracing::warn!(collector, last_bucket, "silent for too long: retired"),
                None => {}
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let changed: Vec<_> = changed.into_iter().map(|(of, member, _)| (of, member)).collect();
        match self.store.enrol(self.term, changed.clone()).await {
            Ok(()) => self.commits.note(changed),
            Err(error) => return self.recover(error).await,
        }
        self.show_silent();
        Ok(())
    }

    fn show_silent(&self) {
        let silent =
            |(of, member): (&Incarnation, &Enrolled)| (member.absent && !member.retired).then(|| of.to_string());
        let silent: Arc<[String]> = self.commits.members().iter().filter_map(silent).collect();
        self.committed.send_modify(|committed| committed.silent = silent);
    }

    /// Answers, and takes out whom it is told to.
    pub(super) async fn on_roster(&mut self, request: RosterRequest) -> Result<(), StoreError> {
        match request {
            RosterRequest::List(reply) => {
                // Whoever asked may be gone.
                let _ = reply.send(self.commits.members().clone());
            }
            RosterRequest::Retire(site, collector, reply) => {
                let retired = self.commits.retire(&site, &collector);
                let known = !retired.is_empty();
                if known {
                    tracing::info!(collector = %format!("{site}/{collector}"), "retired by command");
                }
                match self.store.enrol(self.term, retired).await {
                    Ok(()) => drop(reply.send(Ok(known))),
                    Err(error) => {
                        let told = StoreError::Unknown(error.to_string());
                        let _ = reply.send(Err(told));
                        return self.recover(error).await;
                    }
                }
                self.show_silent();
            }
        }
        Ok(())
    }
}
