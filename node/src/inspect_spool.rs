//! `inspect spool`: what is in a collector's spool directory.

use std::{fmt::Write as _, path::PathBuf};

use clap::Args;
use serde_json::{Value, json};
use spikewatch_collector::spool::{Damage, Numbering, Summary, disk::Disk, summarise};

use crate::{failure::Failure, human};

/// `inspect spool`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SpoolArguments {
    /// The spool's directory.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Next number, mark and pair of each shard.
    #[arg(long)]
    shards: bool,
    /// Everything, as one JSON document.
    #[arg(long, conflicts_with = "shards")]
    json: bool,
}

const EXAMPLES: &str = "\
The spool is only read, also while a collector writes to it: what it is writing just then may show as cut.

Examples:
  What is in there, is it damaged?     spikewatch inspect spool /var/lib/spikewatch/spool
  How far is each shard?               spikewatch inspect spool --shards DIR
  Bytes of segments, for a script:     spikewatch inspect spool --json DIR | jq '[.segments[].bytes] | add'";

/// What there is to say.
///
/// # Errors
/// No spool is there, or it can't be read.
pub(crate) fn text(arguments: &SpoolArguments) -> Result<String, Failure> {
    let directory = &arguments.directory;
    let summary = summarise(&Disk::existing(directory)).map_err(|error| Failure::Io(error.to_string()))?;
    let summary = summary.ok_or_else(|| Failure::NoInput(format!("no spool is in {}", directory.display())))?;
    if arguments.json {
        return Ok(format!("{:#}\n", document(&summary)));
    }
    let mut text = String::new();
    page(&mut text, &summary, arguments.shards).map_err(Failure::internal)?;
    Ok(text)
}

fn page(text: &mut String, summary: &Summary, shards: bool) -> std::fmt::Result {
    let shape = summary.owner.shape;
    let bytes = summary.segments.iter().map(|segment| segment.bytes).sum();
    let sum = |of: fn(&spikewatch_collector::spool::SegmentSummary) -> usize| {
        human::count(summary.segments.iter().map(of).sum::<usize>() as u64)
    };
    let range = summary.slices.map(|(first, last)| format!(", numbers {first} to {last}")).unwrap_or_default();
    let lines = [
        ("collector", format!("{}/{}", summary.owner.site, summary.owner.collector)),
        (
            "made for",
            format!(
                "{} shards, buckets of {} s, hash {}, protocol {}",
                shape.shards, shape.bucket_seconds, shape.hash_id, shape.protocol_version
            ),
        ),
        (
            "on disk",
            format!("{} bytes in {}", human::count(bytes), human::plural(summary.segments.len() as u64, "segment")),
        ),
        (
            "slices",
            format!("{} uncounted, {} counted and kept{range}", sum(|s| s.live_slices), sum(|s| s.trimmed_slices)),
        ),
        (
            "check-point",
            summary
                .checkpoint_bytes
                .map_or_else(|| "none".into(), |bytes| format!("{} bytes", human::count(bytes as u64))),
        ),
        ("spool id", summary.spool.to_string()),
    ];
    for (name, value) in lines {
        writeln!(text, "{name:<12} {value}")?;
    }
    for (place, numbering) in summary.numberings.iter().enumerate() {
        let state = if place + 1 == summary.numberings.len() { "live" } else { "drains" };
        let lost: u64 = numbering.tombstones.iter().map(|stone| stone.events).sum();
        let stones = human::plural(numbering.tombstones.len() as u64, "tombstone");
        writeln!(
            text,
            "{:<12} {}, {state}, {stones} of {} events",
            "incarnation",
            numbering.incarnation,
            human::count(lost)
        )?;
        if shards {
            shard_table(text, numbering)?;
        }
    }
    for (what, damage) in [("cut", &summary.cut), ("damage", &summary.damage)] {
        for Damage { path, offset, bytes, why } in damage {
            writeln!(text, "{what:<12} {} at byte {offset}, {bytes} bytes: {why}", path.display())?;
        }
    }
    match summary.doubt {
        Some(why) => writeln!(text, "{:<12} the next start begins a new incarnation: {why}", "doubt"),
        None => Ok(()),
    }
}

fn shard_table(text: &mut String, numbering: &Numbering) -> std::fmt::Result {
    writeln!(text, "  shard        next  maybe sent     counted  up to bucket")?;
    let rows = numbering.next_seq.iter().zip(&numbering.sent).zip(&numbering.trimmed).enumerate();
    for (shard, ((next, sent), pair)) in rows.filter(|(_, ((next, _), _))| **next > 1) {
        let bucket = if pair.seq == 0 { "none".to_owned() } else { human::rfc3339(pair.bucket) };
        writeln!(text, "  {shard:>5}  {next:>10}  {sent:>10}  {:>10}  {bucket}", pair.seq)?;
    }
    Ok(())
}

fn document(summary: &Summary) -> Value {
    let damage = |damage: &[Damage]| -> Value {
        let each = |Damage { path, offset, bytes, why }: &Damage| json!({"file": path, "offset": offset, "bytes": bytes, "why": why});
        damage.iter().map(each).collect()
    };
    let numbering = |numbering: &Numbering| {
        let pairs: Vec<Value> =
            numbering.trimmed.iter().map(|pair| json!({"bucket_start_ms": pair.bucket, "seq": pair.seq})).collect();
        let stones: Vec<Value> = numbering
            .tombstones
            .iter()
            .map(|stone| {
                json!({"shard": stone.shard, "first_seq": stone.first_seq, "last_seq": stone.last_seq,
                    "buckets": stone.buckets, "events": stone.events, "bytes": stone.bytes})
            })
            .collect();
        json!({"incarnation": numbering.incarnation.to_string(), "next_seq": numbering.next_seq,
            "sent": numbering.sent, "counted": pairs, "tombstones": stones})
    };
    let segments: Vec<Value> = summary
        .segments
        .iter()
        .map(|segment| {
            json!({"number": segment.number, "file": segment.file, "bytes": segment.bytes,
                "slices": segment.live_slices, "counted_slices": segment.trimmed_slices})
        })
        .collect();
    let shape = summary.owner.shape;
    json!({
        "site": summary.owner.site,
        "collector": summary.owner.collector,
        "shape": {"shards": shape.shards, "bucket_seconds": shape.bucket_seconds, "hash_id": shape.hash_id,
            "protocol_version": shape.protocol_version},
        "spool": summary.spool.to_string(),
        "segments": segments,
        "incarnations": summary.numberings.iter().map(numbering).collect::<Vec<_>>(),
        "slices": summary.slices.map(|(first, last)| json!({"first": first, "last": last})),
        "checkpoint_bytes": summary.checkpoint_bytes,
        "cut": damage(&summary.cut),
        "damage": damage(&summary.damage),
        "doubt": summary.doubt,
    })
}
