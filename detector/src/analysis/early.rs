//! Alerts ahead of a bucket's end: which values are worth one is told to the shards' owners, who send what reaches them.
//!
//! On the time of recorded traffic there is no "ahead", and results must not depend on what came when: nothing is told.

use std::sync::Arc;

use spikewatch_domain::key::Subject;
use spikewatch_proto::convert::early::Early;

use super::Analysis;
use crate::{
    scoring::Row,
    store::{Finished, StoreError},
};

impl Analysis {
    /// Scores open windows and alerts at once where a rule wants it.
    pub(super) async fn early(&mut self, early: Early) -> Result<(), StoreError> {
        let start = early.bucket;
        let scored = self.baselines.scored();
        // It has come to its end meanwhile.
        if scored.is_some_and(|scored| start <= scored) {
            return Ok(());
        }
        let row = |row: spikewatch_proto::convert::windows::Row| {
            Some(Row { site: row.site?, subject: row.subject, window: row.window, incomplete: false })
        };
        let rows: Vec<Row> = early.rows.into_iter().filter_map(row).collect();
        self.open_sites.retain(|(bucket, _), _| scored.is_none_or(|scored| *bucket > scored));
        let sites: Vec<&Row> = rows.iter().filter(|row| row.subject == Subject::Site).collect();
        let any = !sites.is_empty();
        // What a site has so far replaces what it had before.
        for row in sites {
            self.open_sites.insert((start, row.site.clone()), row.clone());
        }
        let all = self.open_sites.iter().filter(|((bucket, _), _)| any && *bucket == start);
        let all: Vec<Row> = all.map(|(_, row)| row.clone()).collect();
        let mut records = self.baselines.early(start, &rows, &all);
        let now = self.seams.clock.now_ms();
        records.iter_mut().for_each(|record| record.finalised_ms = now);
        let early = self.parts.executions.early(&records, now);
        self.finish(Finished { early, ..Finished::default() }).await
    }

    /// Tells owners what the next bucket's windows have to reach, whenever baselines have learnt a bucket.
    pub(super) async fn stretch_tripwires(&mut self) -> Result<(), StoreError> {
        let scored = self.baselines.scored();
        if self.seams.clock.is_event_time() || scored == self.stretched {
            return Ok(());
        }
        self.stretched = scored;
        let Some(scored) = scored else { return Ok(()) };
        let next = self.baselines.span().end(scored);
        let begun = tokio::time::Instant::now();
        let jobs = self.baselines.origin().jobs.clone();
        let wanted = jobs.iter().map(|job| (job.id.clone(), self.parts.executions.wanted(job))).collect();
        let tripwires = self.baselines.tripwires(next, self.parts.shards, wanted).await?;
        self.seams.latencies.record("tripwires", begun.elapsed());
        self.parts.tripwires.send_replace(Arc::from(tripwires));
        Ok(())
    }
}
