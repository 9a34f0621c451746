//! The first frame of a segment: whose spool it is, what came before, and what stood then.

use super::{
    codec::{Reader, Writer},
    frame::{self, Kind},
    record::Incarnation,
    standing::Standing,
};

/// The format this version writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;

/// What every party of a cluster must agree on (the wire's `ClusterShape`): numbers and shards mean nothing without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Shards.
    pub shards: u32,
    /// Base bucket, seconds.
    pub bucket_seconds: u32,
    /// Hash and seed that spread keys over shards.
    pub hash_id: u32,
    /// Version of the delivery protocol.
    pub protocol_version: u32,
}

/// Whose spool it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The site.
    pub site: String,
    /// The collector.
    pub collector: String,
    /// The cluster it sends to.
    pub shape: Shape,
}

impl Owner {
    /// The first thing in which `self` (a spool's) differs from what is expected: (what, found, expected).
    pub(super) fn mismatch(&self, expected: &Self) -> Option<(&'static str, String, String)> {
        let number = |value: u32| value.to_string();
        let (found, wanted) = (&self.shape, &expected.shape);
        [
            ("site", self.site.clone(), expected.site.clone()),
            ("collector", self.collector.clone(), expected.collector.clone()),
            ("shards", number(found.shards), number(wanted.shards)),
            ("bucket seconds", number(found.bucket_seconds), number(wanted.bucket_seconds)),
            ("hash id", number(found.hash_id), number(wanted.hash_id)),
            ("protocol version", number(found.protocol_version), number(wanted.protocol_version)),
        ]
        .into_iter()
        .find(|(_, found, expected)| found != expected)
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Random, made with the spool; the salt of all its other frames.
    pub(super) spool: Incarnation,
    /// This segment's number.
    pub(super) segment: u64,
    /// The segments before it and how many bytes of each are durable. What lies behind them never counted; a segment
    /// before this one that is not listed never did, or was deleted. One that is listed may be deleted since.
    pub(super) segments: Vec<(u64, u64)>,
    /// Whose it is.
    pub(super) owner: Owner,
    /// What stood before this segment's first record.
    pub(super) standing: Standing,
}

/// Why a head can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is no head, or a broken one.
    Broken,
    /// Of a later format.
    Format(u32),
}

impl Head {
    /// Its frame.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::default();
        writer.u32(FORMAT);
        writer.incarnation(self.spool);
        writer.u64(self.segment);
        writer.list(&self.segments, |writer, (segment, bytes)| {
            writer.u64(*segment);
            writer.u64(*bytes);
        });
        writer.text(&self.owner.site);
        writer.text(&self.owner.collector);
        let Shape { shards: _, bucket_seconds, hash_id, protocol_version } = self.owner.shape;
        [bucket_seconds, hash_id, protocol_version].into_iter().for_each(|number| writer.u32(number));
        self.standing.write(&mut writer);
        let checkpoint = self.standing.checkpoint.as_deref().unwrap_or_default();
        frame::write(out, &[], Kind::Head, self.standing.last_record, &writer.0, checkpoint, false);
    }

    /// Reads meta and payload of a frame whose CRCs hold.
    pub(super) fn read(meta: &[u8], checkpoint: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader(meta);
        match reader.u32() {
            Some(FORMAT) => {}
            Some(later) if later > FORMAT => return Err(Unreadable::Format(later)),
            _ => return Err(Unreadable::Broken),
        }
        Self::read_fields(reader, checkpoint).ok_or(Unreadable::Broken)
    }

    fn read_fields(mut reader: Reader<'_>, checkpoint: &[u8]) -> Option<Self> {
        let spool = reader.incarnation()?;
        let segment = reader.u64()?;
        let segments = reader.list(16, |reader| Some((reader.u64()?, reader.u64()?)))?;
        let (site, collector) = (reader.text()?, reader.text()?);
        let (bucket_seconds, hash_id, protocol_version) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let standing = Standing::read(&mut reader, checkpoint)?;
        let shape = Shape { shards: standing.shards, bucket_seconds, hash_id, protocol_version };
        reader.done(Self { spool, segment, segments, owner: Owner { site, collector, shape }, standing })
    }
}
