//! The spool: what a collector has counted, on its disk, until the detector has committed it. Storage only: what is sent
//! when, [`uplink`](crate::uplink) decides. It blocks; whoever owns it does so on a thread that may.
//!
//! # On the disk
//! A directory of segments, `00000000000000000001.spool` and so on, each a sequence of frames (`frame.rs` has their
//! layout), a marker `spool.id`, and a `lock` that the process holds. Frames hold records, numbered 1, 2, 3… over all
//! segments:
//!
//! | kind | record |
//! | --- | --- |
//! | 1 head | first in each segment: format, spool id, whose spool it is, the shape of the cluster, the segments before it and how many bytes of each are durable; and what stood before this segment: numberings (next numbers, marks, pairs, tombstones), which slices were removed, the check-point |
//! | 2 slice | a slice's windows, opaque, with the numbers of its batches |
//! | 3 coarsened | the same, in the place of several slices of one bucket |
//! | 4 dropped | slices that are gone uncounted, and the tombstones that stand for them |
//! | 5 mark | up to which number batches may have been sent |
//! | 6 trimmed | pairs: what is counted |
//! | 7 check-point | positions of sources, state of decoders; opaque |
//! | 8 rolled | the numbering begins anew under another incarnation |
//! | 9 end | ends a group: the number of the group's first record |
//!
//! Limits: a payload 1 GiB, the fields of a record 64 MiB, 16 incarnations, 4,096 shards. Memory: 40 bytes a slice and
//! shard that it has rows for, and some 150 a slice (2.7 kB with 64 shards), at most [`Options::max_slices`] of them;
//! besides, what waits for a sync.
//!
//! # Rules
//! - A *group* is what was appended between two syncs: one write, one fsync, and after a crash all of it or nothing. So
//!   a check-point and the slices it speaks of are never torn apart.
//! - A file whose write or fsync failed is never written to again. What is not known to be durable is still in memory, and
//!   goes to a new segment, whose head (as each after it) says how far the old one counts.
//! - Every opening begins a new segment, and cuts off what its predecessor's last sync left unfinished, by the same words
//!   in its head.
//! - The newest segment's head says all but where slices lie. So any segment of which no slice is needed can go, whatever
//!   its place.
//! - Damage costs what it hit: the search goes on at the next frame that holds. Numbers that nothing accounts for get
//!   tombstones. Where the next numbers themselves are in doubt, there is a new incarnation, and all of the old one counts
//!   as perhaps sent.
//! - What can't be noticed here: the last group rotting after its fsync looks like one that never was synced. The owner of
//!   a shard notices, as it knows higher numbers than the spool.

mod budget;
mod codec;
pub mod disk;
mod error;
pub mod file_layer;
mod frame;
mod head;
mod marker;
pub mod memory;
mod merge;
mod number_set;
mod open;
mod options;
mod packing;
mod reading;
mod record;
mod recover;
mod segment;
mod standing;
mod state;
mod summary;
mod upkeep;
mod waiting;
mod walk;
mod writing;

pub use self::{
    budget::{Merge, Merged, Relief},
    error::Error,
    head::{Owner, Shape},
    merge::merge_windows,
    open::{Checkpoint, Opened, Recovered, RecoveredSlice},
    options::{MAX_SLICES, Options, SpoolPlace},
    reading::StoredSlice,
    record::{Incarnation, Pair, Part, Record, SliceMeta, Tombstone},
    recover::Damage,
    standing::{MAX_NUMBERINGS, Numbering},
    summary::{SegmentSummary, Summary, summarise},
    writing::{Counts, Spool},
};
