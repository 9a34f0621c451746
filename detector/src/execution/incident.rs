//! Incidents: consecutive buckets of one series over a rule's threshold. The first alert of an incident is its head: it is
//! brought up to date while the incident lasts, and says when it ended.

use std::collections::BTreeMap;

use spikewatch_domain::record::EventMillis;
use spikewatch_proto::{
    convert::results::{AnomalyRecord, Incident},
    v1,
};

/// An incident of which nothing is heard for so long is over, whatever was scored since.
const LONGEST_PAUSE_MS: u64 = 2 * 86_400_000;

/// Job, site and split value.
pub(super) type Series = (String, String, String);

/// The series of a record.
pub(super) fn series(record: &AnomalyRecord) -> Series {
    (record.job.clone(), record.site.as_ref().map(ToString::to_string).unwrap_or_default(), record.value.clone())
}

/// Where a record stands in its incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Start of the incident's first bucket.
    pub(super) since: EventMillis,
    /// Number of the record's bucket in it, from 1.
    pub(super) bucket: u32,
}

/// One incident.
#[derive(Debug, Clone, PartialEq)]
struct Open {
    /// Start and length of its last bucket.
    last: EventMillis,
    span: u64,
    buckets: u32,
    peak: f64,
    /// Id of the alert that tells of it.
    head: Option<String>,
    ended: bool,
    /// What the head says by now: buckets, and whether it ended.
    told: (u32, bool),
}

/// The incidents of one rule that have not ended, or whose end has not been told.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    open: BTreeMap<(Series, EventMillis), Open>,
}

impl Incidents {
    /// Takes a record into the incident of its series, or begins one. The same record again changes nothing.
    pub(super) fn extend(&mut self, record: &AnomalyRecord) -> Place {
        let (start, span, series) = (record.bucket_start, record.bucket_span.millis(), series(record));
        let newest = self.open.range_mut((series.clone(), 0)..=(series.clone(), EventMillis::MAX)).next_back();
        if let Some(((_, since), open)) = newest {
            let since = *since;
            open.peak = if start >= since { open.peak.max(record.record_score) } else { open.peak };
            if start <= open.last {
                // A late one: it belongs to this incident, or stands alone before it.
                return Place { since: since.min(start), bucket: number(since, start, span) };
            }
            if start <= open.last.saturating_add(span) && !open.ended {
                (open.last, open.span, open.buckets) = (start, span, open.buckets.saturating_add(1));
                return Place { since, bucket: open.buckets };
            }
            open.ended = true;
        }
        let peak = record.record_score;
        let open = Open { last: start, span, buckets: 1, peak, head: None, ended: false, told: (1, false) };
        self.open.insert((series, start), open);
        Place { since: start, bucket: 1 }
    }

    /// What the alert of an open bucket says: it may go on with an incident, or be the first of one.
    pub(super) fn ahead(&self, record: &AnomalyRecord, alert: &str) -> Incident {
        let (start, span, series) = (record.bucket_start, record.bucket_span.millis(), series(record));
        let newest = self.open.range((series.clone(), 0)..=(series, EventMillis::MAX)).next_back();
        let goes_on = newest.filter(|(_, open)| !open.ended && start <= open.last.saturating_add(span));
        let (since, head) = match goes_on {
            Some(((_, since), open)) => ((*since).min(start), open.head.as_deref().unwrap_or(alert)),
            None => (start, alert),
        };
        Incident {
            id: head.to_owned(),
            start: since,
            last: start.saturating_add(span),
            ended: false,
            buckets: number(since, start, span),
            peak_score: record.record_score,
        }
    }

    /// Ends the incidents that a later bucket would have gone on with: all buckets up to `scored` are known.
    pub(super) fn end(&mut self, scored: EventMillis) {
        for open in self.open.values_mut() {
            open.ended |= is_over(open, scored);
        }
    }

    /// True if a head has to say something new, with all buckets up to `scored` known.
    pub(super) fn has_news(&self, scored: EventMillis) -> bool {
        self.open.values().any(|open| {
            open.head.is_some() && (open.told != (open.buckets, open.ended) || (!open.told.1 && is_over(open, scored)))
        })
    }

    /// Makes an alert the head of its incident, unless there is one already.
    pub(super) fn offer_head(&mut self, record: &AnomalyRecord, place: Place, alert: &str) {
        if let Some(open) = self.open.get_mut(&(series(record), place.since)) {
            open.head.get_or_insert_with(|| alert.to_owned());
        }
    }

    /// What the alert of a record says of its incident: the head all of it, others what was known at their bucket.
    pub(super) fn of(&self, record: &AnomalyRecord, place: Place, alert: &str) -> Incident {
        let end = record.bucket_start.saturating_add(record.bucket_span.millis());
        let alone = Incident {
            id: alert.to_owned(),
            start: place.since,
            last: end,
            ended: false,
            buckets: place.bucket,
            peak_score: record.record_score,
        };
        match self.open.get(&(series(record), place.since)) {
            Some(open) if open.head.as_deref() == Some(alert) => Incident {
                last: open.last + open.span,
                ended: open.ended,
                buckets: open.buckets,
                peak_score: open.peak,
                ..alone
            },
            Some(Open { head: Some(head), .. }) => Incident { id: head.clone(), ..alone },
            // Nothing follows what is known to be over.
            _ => Incident { ended: true, ..alone },
        }
    }

    /// What heads have to say that they have not said yet; it counts as said. What has ended is forgotten.
    pub(super) fn news(&mut self) -> Vec<(String, Incident)> {
        let mut news = Vec::new();
        self.open.retain(|(_, since), open| {
            if let Some(head) = &open.head
                && open.told != (open.buckets, open.ended)
            {
                open.told = (open.buckets, open.ended);
                let incident = Incident {
                    id: head.clone(),
                    start: *since,
                    last: open.last + open.span,
                    ended: open.ended,
                    buckets: open.buckets,
                    peak_score: open.peak,
                };
                news.push((head.clone(), incident));
            }
            !open.ended
        });
        news
    }

    /// Forgets what was heard of too long before `newest`.
    pub(super) fn forget(&mut self, newest: EventMillis) {
        self.open.retain(|_, open| newest.saturating_sub(open.last) <= LONGEST_PAUSE_MS);
    }

    /// The heads.
    pub(super) fn heads(&self) -> impl Iterator<Item = &str> {
        self.open.values().filter_map(|open| open.head.as_deref())
    }

    /// As the store keeps it.
    pub(super) fn stored(&self) -> Vec<v1::OpenIncident> {
        let stored = |(((job, site, value), since), open): (&(Series, EventMillis), &Open)| v1::OpenIncident {
            job: job.clone(),
            site: site.clone(),
            value: value.clone(),
            since_ms: *since,
            last_ms: open.last,
            span_ms: open.span,
            buckets: open.buckets,
            peak_score: open.peak,
            head: open.head.clone().unwrap_or_default(),
        };
        self.open.iter().map(stored).collect()
    }

    /// Takes back what [`stored`](Self::stored) gave. What was stored was told.
    pub(super) fn restore(stored: Vec<v1::OpenIncident>) -> Self {
        let restore = |one: v1::OpenIncident| {
            let open = Open {
                last: one.last_ms,
                span: one.span_ms,
                buckets: one.buckets,
                peak: one.peak_score,
                head: Some(one.head).filter(|head| !head.is_empty()),
                ended: false,
                told: (one.buckets, false),
            };
            (((one.job, one.site, one.value), one.since_ms), open)
        };
        Self { open: stored.into_iter().map(restore).collect() }
    }
}

fn is_over(open: &Open, scored: EventMillis) -> bool {
    open.last.saturating_add(open.span.saturating_mul(2)) <= scored
}

/// Number of the bucket at `start` in an incident since `since`.
fn number(since: EventMillis, start: EventMillis, span: u64) -> u32 {
    u32::try_from(start.saturating_sub(since) / span.max(1)).unwrap_or(u32::MAX).saturating_add(1)
}
