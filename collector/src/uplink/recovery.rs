//! Between the spool's words and the core's: what a spool that is opened again tells the core.

use spikewatch_proto::convert::commit::Pair;

use super::core::{self, Loss, RecoveredLane, RecoveredLine, RecoveredSlice};
use crate::spool::{self, Opened, Recovered};

/// The core's lanes, from what was in the spool.
pub(super) fn lanes(recovered: &Recovered) -> Vec<RecoveredLane> {
    let lane = |numbering: &spool::Numbering| {
        let columns = numbering.next_seq.iter().zip(&numbering.sent).zip(&numbering.trimmed);
        let line = |((next_seq, marked), trimmed): ((&u64, &u64), &spool::Pair)| RecoveredLine {
            next_seq: *next_seq,
            marked: *marked,
            trimmed: Pair { bucket: trimmed.bucket, seq: trimmed.seq },
        };
        let own = recovered.slices.iter().filter(|slice| slice.meta.incarnation == numbering.incarnation);
        RecoveredLane {
            incarnation: numbering.incarnation.0,
            lines: columns.map(line).collect(),
            slices: own.map(slice).collect(),
            last_slice: recovered.last_slice,
            tombstones: numbering.tombstones.iter().map(tombstone).collect(),
        }
    };
    recovered.numberings.iter().map(lane).collect()
}

fn slice(slice: &spool::RecoveredSlice) -> RecoveredSlice {
    let part = |part: &spool::Part| core::Part {
        shard: part.shard,
        seq: part.seq,
        rows: part.rows,
        holds: Loss { events: part.events, bytes: part.bytes },
        committed: false,
    };
    RecoveredSlice {
        slice_no: slice.meta.slice_no,
        start: slice.meta.start,
        parts: slice.meta.parts.iter().map(part).collect(),
        stored: slice.bytes,
    }
}

fn tombstone(stone: &spool::Tombstone) -> core::Tombstone {
    core::Tombstone {
        shard: stone.shard,
        first_seq: stone.first_seq,
        last_seq: stone.last_seq,
        buckets: stone.buckets.clone(),
        lost: Loss { events: stone.events, bytes: stone.bytes },
    }
}

/// A batch that was just numbered, as the spool writes it.
pub(super) fn part_for_spool(part: &core::Part) -> spool::Part {
    let core::Part { shard, seq, rows, holds: Loss { events, bytes }, .. } = *part;
    spool::Part { shard, rows, first_seq: seq, seq, events, bytes }
}

/// What is counted, as the spool writes it.
pub(super) fn pair_for_spool(pair: Pair) -> spool::Pair {
    spool::Pair { bucket: pair.bucket, seq: pair.seq }
}

/// Says how the spool was found.
pub(super) fn log(recovered: &Recovered) {
    let uncounted = recovered.slices.iter().filter(|slice| !slice.trimmed).count();
    match &recovered.opened {
        Opened::New => tracing::info!("a new spool"),
        Opened::Resumed => tracing::info!(slices = recovered.slices.len(), uncounted, "the spool goes on"),
        Opened::Renumbered { why } => {
            tracing::error!(
                why,
                uncounted,
                "the spool goes on under a new incarnation; what is left of the old one drains"
            );
        }
    }
    for cut in &recovered.cut {
        let path = cut.path.display();
        tracing::info!(%path, offset = cut.offset, bytes = cut.bytes, why = cut.why, "the end of a spool was not finished");
    }
    for damage in &recovered.damage {
        let path = damage.path.display();
        tracing::error!(%path, offset = damage.offset, bytes = damage.bytes, why = damage.why, "the spool is damaged");
    }
    for (incarnation, missing) in &recovered.missing {
        let (shard, first_seq, last_seq) = (missing.shard, missing.first_seq, missing.last_seq);
        tracing::error!(%incarnation, shard, first_seq, last_seq, "batches were lost with what is damaged");
    }
}
