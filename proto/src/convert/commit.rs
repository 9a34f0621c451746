//! What owners of shards and the detector tell each other: pairs, frontiers, members and commits.

use std::collections::BTreeMap;

use spikewatch_domain::record::EventMillis;

use super::{
    Invalid,
    cluster::{Epoch, Incarnation, Shape, at_most},
    windows::Rows,
};
use crate::v1;

/// Most buckets that one commit may hold windows of, and most corrections.
pub const MAX_BUCKETS: usize = 4096;
/// Most pairs and most members a shard may have.
pub const MAX_MEMBERS: usize = 16_384;

/// What is counted of one incarnation on one shard: everything with bucket ≤ `bucket` and sequence number ≤ `seq`, and
/// nothing else. The default says: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Start of the bucket, ms.
    pub bucket: EventMillis,
    /// The sequence number; 0 if nothing is counted.
    pub seq: u64,
}

impl Pair {
    /// True if that batch is counted.
    #[must_use]
    pub fn covers(&self, bucket: EventMillis, seq: u64) -> bool {
        bucket <= self.bucket && seq <= self.seq
    }
}

/// Reads a pair and whose it is.
///
/// # Errors
/// An identity without its form, or a time that starts no bucket.
pub fn read_pair(message: &v1::Pair, shape: &Shape) -> Result<(Incarnation, Pair), Invalid> {
    let of = Incarnation::read("Pair.incarnation", &message.site, &message.collector, &message.incarnation)?;
    let bucket = shape.bucket_start("Pair.bucket_start_ms", message.bucket_start_ms)?;
    Ok((of, Pair { bucket, seq: message.seq }))
}

/// Writes a pair.
#[must_use]
pub fn write_pair(of: &Incarnation, pair: Pair) -> v1::Pair {
    v1::Pair {
        site: of.site.to_string(),
        collector: of.collector.to_string(),
        incarnation: of.id.to_vec(),
        bucket_start_ms: pair.bucket,
        seq: pair.seq,
    }
}

/// How far a shard is committed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Frontier {
    /// Start of the last committed bucket, ms; `None` before the first commit.
    pub bucket: Option<EventMillis>,
    /// Number of the last commit; 0 before the first.
    pub commit_no: u64,
    /// The pairs.
    pub pairs: BTreeMap<Incarnation, Pair>,
}

impl Frontier {
    /// Reads a frontier.
    ///
    /// # Errors
    /// Missing, too large, or a part without its form.
    pub fn read(message: Option<&v1::Frontier>, shape: &Shape) -> Result<Self, Invalid> {
        let frontier = message.ok_or_else(|| Invalid::new("Opened.frontier", "is missing"))?;
        let start = shape.bucket_start("Frontier.bucket_start_ms", frontier.bucket_start_ms)?;
        at_most("Frontier.pairs", frontier.pairs.len(), MAX_MEMBERS)?;
        let pairs = frontier.pairs.iter().map(|pair| read_pair(pair, shape)).collect::<Result<_, _>>()?;
        Ok(Self { bucket: (frontier.commit_no > 0).then_some(start), commit_no: frontier.commit_no, pairs })
    }
}

impl From<&Frontier> for v1::Frontier {
    fn from(frontier: &Frontier) -> Self {
        Self {
            bucket_start_ms: frontier.bucket.unwrap_or(0),
            commit_no: frontier.commit_no,
            pairs: frontier.pairs.iter().map(|(of, pair)| write_pair(of, *pair)).collect(),
        }
    }
}

/// A collector that a close waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// Which.
    pub of: Incarnation,
    /// Start of the last bucket it vouched for, ms; 0 if none.
    pub last_bucket: EventMillis,
    /// No longer waited for, but named missing.
    pub absent: bool,
}

impl From<&Member> for v1::Member {
    fn from(member: &Member) -> Self {
        Self {
            site: member.of.site.to_string(),
            collector: member.of.collector.to_string(),
            incarnation: member.of.id.to_vec(),
            last_bucket_start_ms: member.last_bucket,
            absent: member.absent,
        }
    }
}

/// What an owner is given when it opens a shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Opened {
    /// The shard.
    pub shard: u32,
    /// Its new epoch.
    pub epoch: Epoch,
    /// How far it is committed.
    pub frontier: Frontier,
    /// Its members.
    pub members: Vec<Member>,
    /// The cluster's shape.
    pub shape: Shape,
    /// Event time that a close waits beyond the bucket's end, ms.
    pub allowed_lateness_ms: u64,
    /// Time that a close waits at most for a member, ms.
    pub max_wait_ms: u64,
}

impl Opened {
    /// Reads the answer to an open.
    ///
    /// # Errors
    /// A field is missing or out of its range.
    pub fn read(message: &v1::Opened) -> Result<Self, Invalid> {
        let shape = Shape::read(message.shape.as_ref())?;
        at_most("Opened.members", message.members.len(), MAX_MEMBERS)?;
        let member = |member: &v1::Member| {
            let of = Incarnation::read("Member.incarnation", &member.site, &member.collector, &member.incarnation)?;
            Ok(Member { of, last_bucket: member.last_bucket_start_ms, absent: member.absent })
        };
        Ok(Self {
            shard: shape.shard("Opened.shard", message.shard)?,
            epoch: Epoch::read("Opened.epoch", message.epoch.as_ref())?,
            frontier: Frontier::read(message.frontier.as_ref(), &shape)?,
            members: message.members.iter().map(member).collect::<Result<_, _>>()?,
            shape,
            allowed_lateness_ms: u64::from(message.allowed_lateness_seconds) * 1000,
            max_wait_ms: u64::from(message.max_wait_seconds) * 1000,
        })
    }
}

impl From<&Opened> for v1::Opened {
    fn from(opened: &Opened) -> Self {
        let seconds = |ms: u64| u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX);
        Self {
            shard: opened.shard,
            epoch: Some(opened.epoch.into()),
            frontier: Some((&opened.frontier).into()),
            members: opened.members.iter().map(Into::into).collect(),
            shape: Some(opened.shape.into()),
            allowed_lateness_seconds: seconds(opened.allowed_lateness_ms),
            max_wait_seconds: seconds(opened.max_wait_ms),
        }
    }
}

/// Windows, or corrections, of one bucket: checked, and left where they are in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketRows {
    /// Start of the bucket, ms.
    pub bucket: EventMillis,
    /// How many rows there are; each names its site.
    pub rows: usize,
}

/// A commit, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitParts {
    /// The shard.
    pub shard: u32,
    /// The epoch it is made under.
    pub epoch: Epoch,
    /// Its number; at least 1.
    pub commit_no: u64,
    /// The last bucket sealed by it, start in ms; that of the frontier if it carries corrections only.
    pub bucket: EventMillis,
    /// Windows of the buckets that it seals, ascending; a bucket without any may be absent.
    pub windows: Vec<BucketRows>,
    /// Deltas to sealed buckets, to be applied in this order after the windows. A bucket may come more than once.
    pub corrections: Vec<BucketRows>,
    /// The pairs that move.
    pub pairs: Vec<(Incarnation, Pair)>,
    /// Members that some windows miss, "site/collector".
    pub missing: Vec<String>,
    /// W3C traceparent of the last slice that went into it; may be empty.
    pub traceparent: String,
}

impl CommitParts {
    /// Reads a commit.
    ///
    /// # Errors
    /// A field is missing, too large, or out of its range or order.
    pub fn read(message: &v1::Commit, shape: &Shape) -> Result<Self, Invalid> {
        if message.commit_no == 0 {
            return Err(Invalid::new("Commit.commit_no", "is 0, the first is 1"));
        }
        at_most("Commit.pairs", message.pairs.len(), MAX_MEMBERS)?;
        at_most("Commit.missing", message.missing.len(), MAX_MEMBERS)?;
        at_most("Commit.traceparent", message.traceparent.len(), 128)?;
        let bucket = shape.bucket_start("Commit.bucket_start_ms", message.bucket_start_ms)?;
        let windows = read_buckets("Commit.windows", &message.windows, bucket, shape)?;
        if windows.windows(2).any(|two| matches!(two, [a, b] if a.bucket >= b.bucket)) {
            return Err(Invalid::new("Commit.windows", "buckets do not ascend"));
        }
        Ok(Self {
            shard: shape.shard("Commit.shard", message.shard)?,
            epoch: Epoch::read("Commit.epoch", message.epoch.as_ref())?,
            commit_no: message.commit_no,
            bucket,
            windows,
            corrections: read_buckets("Commit.corrections", &message.corrections, bucket, shape)?,
            pairs: message.pairs.iter().map(|pair| read_pair(pair, shape)).collect::<Result<_, _>>()?,
            missing: message.missing.clone(),
            traceparent: message.traceparent.clone(),
        })
    }
}

fn read_buckets(
    field: &'static str,
    messages: &[v1::BucketWindows],
    last: EventMillis,
    shape: &Shape,
) -> Result<Vec<BucketRows>, Invalid> {
    at_most(field, messages.len(), MAX_BUCKETS)?;
    let empty = v1::Windows::default();
    let read = |message: &v1::BucketWindows| {
        let bucket = shape.bucket_start(field, message.bucket_start_ms)?;
        if bucket > last {
            return Err(Invalid::new(field, format!("bucket {bucket} lies after the commit's, {last}")));
        }
        let mut left = Rows::over(message.windows.as_ref().unwrap_or(&empty))?;
        let rows = left.left();
        while let Some(row) = left.next()? {
            if row.site.is_none() {
                return Err(Invalid::new(field, format!("a row ({}) names no site", row.subject)));
            }
        }
        Ok(BucketRows { bucket, rows })
    };
    messages.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use spikewatch_domain::{key::Subject, span::Span, window::Window};

    use super::*;
    use crate::convert::windows;

    const SHAPE: Shape = Shape { shards: 4, bucket: Span::QUARTER_HOUR };

    fn incarnation() -> Incarnation {
        Incarnation { site: "s".parse().unwrap(), collector: "c".parse().unwrap(), id: [1; 16] }
    }

    fn bucket(start: u64) -> v1::BucketWindows {
        let mut windows = v1::Windows { sites: vec!["s".into()], ..v1::Windows::default() };
        windows::push(&mut windows, Some(0), &Subject::Site, &Window::default(), false);
        v1::BucketWindows { bucket_start_ms: start, windows: Some(windows) }
    }

    fn commit() -> v1::Commit {
        v1::Commit {
            shard: 3,
            epoch: Some(Epoch { lineage: [2; 16], number: 1 }.into()),
            commit_no: 1,
            bucket_start_ms: 900_000,
            windows: vec![bucket(0), bucket(900_000)],
            corrections: vec![bucket(0), bucket(0)],
            pairs: vec![write_pair(&incarnation(), Pair { bucket: 900_000, seq: 7 })],
            ..v1::Commit::default()
        }
    }

    #[test]
    fn a_commit_is_read() {
        let parts = CommitParts::read(&commit(), &SHAPE).unwrap();
        assert_eq!(parts.pairs, [(incarnation(), Pair { bucket: 900_000, seq: 7 })]);
        assert_eq!((parts.windows.len(), parts.corrections.len()), (2, 2));
    }

    #[test]
    fn a_commit_that_breaks_an_order_is_refused_by_field() {
        type Break = fn(&mut v1::Commit);
        let broken: [(Break, &str); 6] = [
            (|commit| commit.commit_no = 0, "Commit.commit_no"),
            (|commit| commit.bucket_start_ms = 900_001, "Commit.bucket_start_ms"),
            (|commit| commit.bucket_start_ms = 0, "Commit.windows"),
            (|commit| commit.windows.swap(0, 1), "Commit.windows"),
            (|commit| commit.epoch = None, "Commit.epoch"),
            (|commit| commit.shard = 4, "Commit.shard"),
        ];
        for (breaks, field) in broken {
            let mut message = commit();
            breaks(&mut message);
            assert_eq!(CommitParts::read(&message, &SHAPE).unwrap_err().field, field);
        }
    }

    #[test]
    fn what_an_owner_is_given_survives_the_wire() {
        let of = incarnation();
        let pairs = BTreeMap::from([(of.clone(), Pair { bucket: 900_000, seq: 7 })]);
        let mut opened = Opened {
            shard: 2,
            epoch: Epoch { lineage: [2; 16], number: 4 },
            frontier: Frontier { bucket: Some(1_800_000), commit_no: 5, pairs },
            members: vec![Member { of, last_bucket: 900_000, absent: true }],
            shape: SHAPE,
            allowed_lateness_ms: 2000,
            max_wait_ms: 900_000,
        };
        assert_eq!(Opened::read(&(&opened).into()).unwrap(), opened);
        opened.frontier = Frontier::default();
        assert_eq!(Opened::read(&(&opened).into()).unwrap().frontier.bucket, None);
    }

    #[test]
    fn a_pair_covers_what_lies_below_both() {
        let pair = Pair { bucket: 900_000, seq: 7 };
        assert!(pair.covers(0, 7) && pair.covers(900_000, 1));
        assert!(!pair.covers(0, 8) && !pair.covers(1_800_000, 7) && !Pair::default().covers(0, 1));
    }
}
