//! What collectors tell aggregators: hello, bindings, batches, watermarks, tombstones.

use spikewatch_domain::{key::SiteName, record::EventMillis, shard::Sharding};

use super::{
    Invalid,
    cluster::{Epoch, Incarnation, Shape, at_most, bytes16},
    windows::{Columns, Rows},
};
use crate::v1;

/// Most incarnations of one collector that are known at the same time.
pub const MAX_INCARNATIONS: usize = 16;
/// Most buckets that a tombstone may name.
const MAX_LOST_BUCKETS: usize = 1024;

/// A collector introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Who it is.
    pub of: Incarnation,
    /// The cluster it takes this to be.
    pub shape: Shape,
    /// Its clock when it sent this, ms.
    pub clock_ms: u64,
    /// It plays recorded traffic on an event-time clock.
    pub event_time: bool,
    /// A later incarnation carries the live traffic: nobody waits for this one.
    pub back_fill: bool,
    /// Earlier incarnations that still deliver.
    pub draining: Vec<[u8; 16]>,
}

impl Hello {
    /// Reads a hello.
    ///
    /// # Errors
    /// A field is missing or without its form.
    pub fn read(message: &v1::Hello) -> Result<Self, Invalid> {
        at_most("Hello.draining", message.draining.len(), MAX_INCARNATIONS)?;
        let draining = message.draining.iter().map(|id| bytes16("Hello.draining", id)).collect::<Result<_, _>>()?;
        Ok(Self {
            of: Incarnation::read("Hello.incarnation", &message.site, &message.collector, &message.incarnation)?,
            shape: Shape::read(message.shape.as_ref())?,
            clock_ms: message.clock_ms,
            event_time: message.event_time,
            back_fill: message.back_fill,
            draining,
        })
    }
}

/// One shard that a stream is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// The shard.
    pub shard: u32,
    /// The epoch of its owner.
    pub epoch: Epoch,
    /// The lowest untrimmed sequence number: the first that will come; at least 1.
    pub lowest_seq: u64,
    /// The highest trimmed one; 0 if none.
    pub trimmed_seq: u64,
}

impl Bind {
    /// Reads the bindings of one message.
    ///
    /// # Errors
    /// Columns of different lengths, an unknown shard, or numbers that contradict each other.
    pub fn read(message: &v1::Bind, shape: &Shape) -> Result<Vec<Self>, Invalid> {
        let rows = message.shard.len();
        at_most("Bind.shard", rows, shape.shards as usize)?;
        same("Bind.epoch", message.epoch.len(), rows)?;
        same("Bind.lowest_seq", message.lowest_seq.len(), rows)?;
        same("Bind.trimmed_seq", message.trimmed_seq.len(), rows)?;
        let columns = message.shard.iter().zip(&message.epoch).zip(message.lowest_seq.iter().zip(&message.trimmed_seq));
        let bind = |((&shard, epoch), (&lowest_seq, &trimmed_seq)): ((&u32, &v1::Epoch), (&u64, &u64))| {
            if lowest_seq <= trimmed_seq {
                let problem = format!("is {lowest_seq}, but {trimmed_seq} is trimmed");
                return Err(Invalid::new("Bind.lowest_seq", problem));
            }
            let epoch = Epoch::read("Bind.epoch", Some(epoch))?;
            Ok(Self { shard: shape.shard("Bind.shard", shard)?, epoch, lowest_seq, trimmed_seq })
        };
        columns.map(bind).collect()
    }
}

/// The part of a slice that belongs to one shard.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The shard.
    pub shard: u32,
    /// Its sequence number; at least 1.
    pub seq: u64,
    /// The one sent before it on this stream for this shard; 0 for the first.
    pub prev: u64,
    /// Its windows; none names a site, as the stream has one.
    pub rows: Columns,
}

/// One slice, cut into batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// Start of the bucket that the slice lies in, ms.
    pub bucket: EventMillis,
    /// One batch for each shard it touches.
    pub batches: Vec<Batch>,
    /// W3C traceparent of the span that made it; may be empty.
    pub traceparent: String,
    /// The collector's wall clock when it sent this, ms; 0 if unknown.
    pub sent_ms: u64,
}

impl Slice {
    /// Reads a slice of a collector of `site`.
    ///
    /// # Errors
    /// Columns of different lengths, an unknown or repeated shard, numbers that don't ascend, bad windows, or a key in
    /// the batch of another shard: two owners would merge it, and alert on parts of it.
    pub fn read(message: &v1::SliceBatches, shape: &Shape, site: &SiteName) -> Result<Self, Invalid> {
        let count = message.shard.len();
        at_most("SliceBatches.shard", count, shape.shards as usize)?;
        at_most("SliceBatches.traceparent", message.traceparent.len(), 128)?;
        same("SliceBatches.seq", message.seq.len(), count)?;
        same("SliceBatches.prev", message.prev.len(), count)?;
        same("SliceBatches.rows", message.rows.len(), count)?;
        let empty = v1::Windows::default();
        let mut windows = Rows::over(message.windows.as_ref().unwrap_or(&empty))?;
        if !windows.sites().is_empty() {
            return Err(Invalid::new("SliceBatches.windows", "names sites; the stream has one already"));
        }
        let total: u64 = message.rows.iter().map(|rows| u64::from(*rows)).sum();
        if total != windows.left() as u64 {
            let problem = format!("add up to {total}, the message has {} windows", windows.left());
            return Err(Invalid::new("SliceBatches.rows", problem));
        }
        if message.shard.windows(2).any(|two| matches!(two, [a, b] if a >= b)) {
            return Err(Invalid::new("SliceBatches.shard", "does not ascend"));
        }
        let columns = message.shard.iter().zip(&message.seq).zip(message.prev.iter().zip(&message.rows));
        let mut sharding = Sharding::new(site, shape.shards);
        let mut batches = Vec::with_capacity(count);
        for ((&shard, &seq), (&prev, &rows)) in columns {
            if seq <= prev {
                return Err(Invalid::new("SliceBatches.seq", format!("is {seq}, but {prev} was sent before it")));
            }
            let shard = shape.shard("SliceBatches.shard", shard)?;
            let rows =
                Columns::take_checked(&mut windows, rows as usize, |row, subject| match sharding.shard_of(subject) {
                    belongs if belongs == shard => Ok(()),
                    belongs => {
                        let problem = format!("row {row} of shard {shard}, {subject}, belongs to shard {belongs}");
                        Err(Invalid::new("SliceBatches.windows", problem))
                    }
                });
            batches.push(Batch { shard, seq, prev, rows: rows? });
        }
        // After the last row: no column may have more.
        windows.next()?;
        Ok(Self {
            bucket: shape.bucket_start("SliceBatches.slice_start_ms", shape.bucket.floor(message.slice_start_ms))?,
            batches,
            traceparent: message.traceparent.clone(),
            sent_ms: message.sent_ms,
        })
    }
}

/// A collector's promise that no record older than this will come, late ones excepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// Event time, ms.
    pub time_ms: EventMillis,
    /// Per shard with batches: shard, and the last sequence number covered.
    pub covers: Vec<(u32, u64)>,
    /// Nothing follows: buckets up to `time_ms` need no allowance for late records.
    pub last: bool,
    /// Shards that it says nothing of.
    pub except: Vec<u32>,
}

impl Watermark {
    /// Reads a watermark.
    ///
    /// # Errors
    /// Columns of different lengths, or an unknown shard.
    pub fn read(message: &v1::Watermark, shape: &Shape) -> Result<Self, Invalid> {
        let covers = read_numbered("Watermark.shard", &message.shard, &message.seq, shape)?;
        at_most("Watermark.except", message.except.len(), shape.shards as usize)?;
        let except = message.except.iter().map(|shard| shape.shard("Watermark.except", *shard));
        Ok(Self { time_ms: message.time_ms, covers, last: message.last, except: except.collect::<Result<_, _>>()? })
    }
}

/// Reads the shards and numbers of a replay's end.
///
/// # Errors
/// Columns of different lengths, or an unknown shard.
pub fn read_replay_end(message: &v1::ReplayEnd, shape: &Shape) -> Result<Vec<(u32, u64)>, Invalid> {
    read_numbered("ReplayEnd.shard", &message.shard, &message.seq, shape)
}

/// Batches that the disk budget dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The shard.
    pub shard: u32,
    /// The first number dropped; at least 1.
    pub first_seq: u64,
    /// The last number dropped.
    pub last_seq: u64,
    /// The number sent before it on this stream for this shard; 0 for the first.
    pub prev: u64,
    /// Starts of the buckets that lost something, ms.
    pub buckets: Vec<EventMillis>,
    /// Events lost.
    pub events: u64,
    /// Bytes lost.
    pub bytes: u64,
}

impl Tombstone {
    /// Reads a tombstone.
    ///
    /// # Errors
    /// An unknown shard, numbers that contradict each other, or a time that starts no bucket.
    pub fn read(message: &v1::Tombstone, shape: &Shape) -> Result<Self, Invalid> {
        let &v1::Tombstone { first_seq, last_seq, prev, events, bytes, .. } = message;
        if first_seq <= prev || last_seq < first_seq {
            let problem = format!("{first_seq} to {last_seq} is no range after {prev}");
            return Err(Invalid::new("Tombstone.first_seq", problem));
        }
        at_most("Tombstone.bucket_start_ms", message.bucket_start_ms.len(), MAX_LOST_BUCKETS)?;
        let start = |start: &u64| shape.bucket_start("Tombstone.bucket_start_ms", *start);
        let buckets = message.bucket_start_ms.iter().map(start).collect::<Result<_, _>>()?;
        let shard = shape.shard("Tombstone.shard", message.shard)?;
        Ok(Self { shard, first_seq, last_seq, prev, buckets, events, bytes })
    }
}

fn read_numbered(field: &'static str, shards: &[u32], seqs: &[u64], shape: &Shape) -> Result<Vec<(u32, u64)>, Invalid> {
    at_most(field, shards.len(), shape.shards as usize)?;
    same(field, seqs.len(), shards.len())?;
    shards.iter().zip(seqs).map(|(shard, seq)| Ok((shape.shard(field, *shard)?, *seq))).collect()
}

/// Checks that a column is as long as the first one.
fn same(field: &'static str, length: usize, rows: usize) -> Result<(), Invalid> {
    let problem = || Invalid::new(field, format!("has {length} rows, the column before it {rows}"));
    (length == rows).then_some(()).ok_or_else(problem)
}

#[cfg(test)]
mod tests {
    use spikewatch_domain::{key::Subject, shard::shard_of, span::Span, window::Window};

    use super::*;
    use crate::convert::windows;

    const SHAPE: Shape = Shape { shards: 4, bucket: Span::QUARTER_HOUR };

    fn berlin() -> SiteName {
        "berlin".parse().unwrap()
    }

    /// The `index`th port that belongs to the shard.
    fn port(shard: u32, index: usize) -> Subject {
        let belongs = |subject: &Subject| shard_of(&berlin(), subject, SHAPE.shards) == shard;
        (1..u16::MAX).map(Subject::Port).filter(belongs).nth(index).unwrap()
    }

    fn windows(subjects: &[Subject]) -> v1::Windows {
        let mut windows = v1::Windows::default();
        subjects.iter().for_each(|subject| windows::push(&mut windows, None, subject, &Window::default(), false));
        windows
    }

    fn slice() -> v1::SliceBatches {
        v1::SliceBatches {
            slice_start_ms: 910_000,
            shard: vec![0, 3],
            seq: vec![7, 2],
            prev: vec![5, 0],
            rows: vec![1, 2],
            windows: Some(windows(&[port(0, 0), port(3, 0), port(3, 1)])),
            ..v1::SliceBatches::default()
        }
    }

    #[test]
    fn a_slice_is_cut_by_shard() {
        let slice = Slice::read(&slice(), &SHAPE, &berlin()).unwrap();
        assert_eq!(slice.bucket, 900_000);
        let cut: Vec<_> = slice.batches.iter().map(|b| (b.shard, b.seq, b.prev, b.rows.len())).collect();
        assert_eq!(cut, [(0, 7, 5, 1), (3, 2, 0, 2)]);
        assert_eq!(slice.batches[1].rows.iter().nth(1).unwrap().subject, port(3, 1));
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_field() {
        type Break = fn(&mut v1::SliceBatches);
        let broken: [(Break, &str); 7] = [
            (|slice| slice.rows[1] = 3, "SliceBatches.rows: add up to 4, the message has 3 windows"),
            (|slice| slice.rows[1] = u32::MAX, "SliceBatches.rows: add up to 4294967296, the message has 3 windows"),
            (|slice| slice.shard[1] = 4, "SliceBatches.shard: is 4, the cluster has 4 shards"),
            (|slice| slice.shard[1] = 0, "SliceBatches.shard: does not ascend"),
            (|slice| slice.prev[0] = 7, "SliceBatches.seq: is 7, but 7 was sent before it"),
            (|slice| slice.seq.truncate(1), "SliceBatches.seq: has 1 rows, the column before it 2"),
            (
                |slice| slice.slice_start_ms = u64::MAX,
                "SliceBatches.slice_start_ms: 18446744073708900000 is no start of a bucket of 15m",
            ),
        ];
        for (breaks, problem) in broken {
            let mut message = slice();
            breaks(&mut message);
            assert_eq!(Slice::read(&message, &SHAPE, &berlin()).unwrap_err().to_string(), problem);
        }
    }

    #[test]
    fn keys_belong_to_the_shard_of_their_batch() {
        let [first, second, other] = [port(0, 0), port(3, 0), port(1, 0)];
        let read = |subjects: [&Subject; 3], site: &SiteName| {
            let message = v1::SliceBatches { windows: Some(windows(&subjects.map(Clone::clone))), ..slice() };
            Slice::read(&message, &SHAPE, site)
        };
        let error = read([&first, &second, &other], &berlin()).unwrap_err().to_string();
        assert_eq!(error, format!("SliceBatches.windows: row 1 of shard 3, {other}, belongs to shard 1"));
        assert!(read([&other, &second, &second], &berlin()).is_err());
        assert!(read([&first, &second, &second], &"paris".parse().unwrap()).is_err(), "shards depend on the site");
        // Twice in one batch is merged by the shard: nothing is lost.
        let twice = read([&first, &second, &second], &berlin()).unwrap();
        assert_eq!((twice.batches[1].rows.len(), twice.batches[1].rows.is_ascending()), (2, false));
    }

    #[test]
    fn a_hello_names_who_and_which_cluster() {
        let message = v1::Hello {
            site: "berlin".into(),
            collector: "c1".into(),
            incarnation: vec![7; 16],
            shape: Some(SHAPE.into()),
            ..v1::Hello::default()
        };
        let hello = Hello::read(&message).unwrap();
        assert_eq!((hello.of.to_string().as_str(), hello.shape), ("berlin/c1", SHAPE));
        let short = v1::Hello { incarnation: vec![7; 3], ..message.clone() };
        assert_eq!(Hello::read(&short).unwrap_err().to_string(), "Hello.incarnation: id has 3 bytes, expected 16");
        let other = v1::ClusterShape { protocol_version: 9, ..SHAPE.into() };
        let other = v1::Hello { shape: Some(other), ..message };
        assert_eq!(Hello::read(&other).unwrap_err().field, "ClusterShape.protocol_version");
    }

    #[test]
    fn a_tombstone_is_a_range_after_what_was_sent() {
        let good = v1::Tombstone { shard: 1, first_seq: 4, last_seq: 9, prev: 3, ..v1::Tombstone::default() };
        assert!(Tombstone::read(&good, &SHAPE).is_ok());
        assert!(Tombstone::read(&v1::Tombstone { prev: 4, ..good.clone() }, &SHAPE).is_err());
        assert!(Tombstone::read(&v1::Tombstone { last_seq: 3, ..good.clone() }, &SHAPE).is_err());
        assert!(Tombstone::read(&v1::Tombstone { bucket_start_ms: vec![1], ..good }, &SHAPE).is_err());
    }
}
