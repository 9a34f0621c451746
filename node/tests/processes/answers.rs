//! What the detector that leads tells of the cluster, whichever that is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use spikewatch_domain::key::Subject;
use spikewatch_proto::{
    convert::windows::{Row, read},
    v1::{
        Alert, AlertsQuery, CollectorsQuery, Progress, ProgressRequest, WindowsQuery, alerting_client::AlertingClient,
        results_client::ResultsClient, roster_client::RosterClient,
    },
};
use tonic::transport::Channel;

use crate::{
    cluster::Cluster,
    traffic::{Counted, Key},
};

impl Cluster {
    /// Waits until both collectors are in the roster, and all buckets up to that one are committed.
    pub(crate) async fn committed(&self, bucket: u64) {
        for _ in 0..300 {
            if self.enrolled().await == Some(2) && self.frontier().await >= Some(bucket) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{bucket} was not committed but {:?}:\n{}", self.frontier().await, self.logs());
    }

    /// Waits until all buckets up to that one are scored.
    pub(crate) async fn scored(&self, bucket: u64) {
        for _ in 0..300 {
            if self.progress().await.is_some_and(|progress| progress.scored_ms >= bucket) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{bucket} was not scored but {:?}:\n{}", self.progress().await, self.logs());
    }

    /// All windows of hosts with their corrections, if a detector answers.
    pub(crate) async fn windows(&self) -> Option<BTreeMap<Key, Counted>> {
        let mut counted = BTreeMap::new();
        for (bucket, row) in self.rows().await? {
            let Subject::Address(host) = row.subject else { continue };
            let key = (bucket, row.site?.as_str().to_owned(), host);
            let before = counted.insert(key, (row.window.counters.events, row.window.counters.bytes_out));
            assert_eq!(before, None, "a window comes once, its corrections merged in");
        }
        Some(counted)
    }

    /// Buckets and sites with windows that miss a member of the site.
    pub(crate) async fn incomplete(&self) -> BTreeSet<(u64, String)> {
        let rows = self.rows().await.unwrap();
        let incomplete = rows.into_iter().filter(|(_, row)| row.incomplete);
        incomplete.map(|(bucket, row)| (bucket, row.site.unwrap().as_str().to_owned())).collect()
    }

    /// Deltas to sealed buckets that were committed.
    pub(crate) async fn corrections(&self) -> u64 {
        self.progress().await.unwrap().corrections
    }

    /// All alerts in the order they were made, if a detector answers.
    pub(crate) async fn alerts(&self) -> Option<Vec<Alert>> {
        for number in 1..=2 {
            let Some(channel) = self.channel(number).await else { continue };
            let mut client = AlertingClient::new(channel).max_decoding_message_size(64 << 20);
            let Ok(answer) = client.list_alerts(AlertsQuery::default()).await else { continue };
            let (mut pages, mut all) = (answer.into_inner(), Vec::new());
            while let Some(page) = pages.message().await.ok()? {
                all.extend(page.alerts);
            }
            return Some(all);
        }
        None
    }

    /// How many collectors are in the roster, if a detector answers.
    async fn enrolled(&self) -> Option<usize> {
        for number in 1..=2 {
            let Some(channel) = self.channel(number).await else { continue };
            let Ok(answer) = RosterClient::new(channel).list_collectors(CollectorsQuery {}).await else { continue };
            return Some(answer.into_inner().collectors.len());
        }
        None
    }

    /// All windows with their corrections, each with its bucket, if a detector answers.
    pub(crate) async fn rows(&self) -> Option<Vec<(u64, Row)>> {
        for number in 1..=2 {
            let Some(mut client) = self.detector(number).await else { continue };
            let Ok(answer) = client.list_windows(WindowsQuery::default()).await else { continue };
            let (mut pages, mut all) = (answer.into_inner(), Vec::new());
            while let Some(page) = pages.message().await.ok()? {
                all.extend(read(&page.windows?).unwrap().into_iter().map(|row| (page.bucket_start_ms, row)));
            }
            return Some(all);
        }
        None
    }

    pub(crate) async fn frontier(&self) -> Option<u64> {
        self.progress().await.map(|progress| progress.frontier_ms).filter(|frontier| *frontier > 0)
    }

    async fn progress(&self) -> Option<Progress> {
        for number in 1..=2 {
            let Some(mut client) = self.detector(number).await else { continue };
            let Ok(answer) = client.watch_progress(ProgressRequest {}).await else { continue };
            return answer.into_inner().message().await.ok().flatten();
        }
        None
    }

    async fn detector(&self, number: usize) -> Option<ResultsClient<Channel>> {
        Some(ResultsClient::new(self.channel(number).await?).max_decoding_message_size(64 << 20))
    }
}
