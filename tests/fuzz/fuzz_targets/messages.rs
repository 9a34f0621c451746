//! Messages of collectors and owners as they come over a wire: refused with the field's name, or read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use spikewatch_domain::{
    key::SiteName,
    shard::{DEFAULT_SHARDS, shard_of},
    span::Span,
};
use spikewatch_proto::{
    convert::{
        Invalid,
        cluster::Shape,
        commit::{CommitParts, Opened},
        ingest::{Bind, Hello, Slice, Tombstone, Watermark, read_replay_end},
    },
    v1::{CollectorMessage, DetectorMessage, OwnerMessage, collector_message, detector_message, owner_message},
};

const SHAPE: Shape = Shape { shards: DEFAULT_SHARDS, bucket: Span::QUARTER_HOUR };

fuzz_target!(|data: &[u8]| {
    let site: SiteName = "main".parse().expect("a name");
    let results = [
        CollectorMessage::decode(data).ok().and_then(|message| message.message).map(|message| collector(&message, &site)),
        OwnerMessage::decode(data).ok().and_then(|message| message.message).map(|message| owner(&message)),
        DetectorMessage::decode(data).ok().and_then(|message| message.message).map(|message| detector(&message)),
    ];
    for invalid in results.into_iter().flatten().filter_map(Result::err) {
        assert!(!invalid.field.is_empty() && !invalid.problem.is_empty());
    }
});

fn collector(message: &collector_message::Message, site: &SiteName) -> Result<(), Invalid> {
    use collector_message::Message;
    match message {
        Message::Hello(message) => Hello::read(message).map(drop),
        Message::Bind(message) => Bind::read(message, &SHAPE).map(drop),
        Message::Batches(message) => {
            for batch in Slice::read(message, &SHAPE, site)?.batches {
                assert!(batch.rows.iter().all(|row| shard_of(site, &row.subject, SHAPE.shards) == batch.shard));
            }
            Ok(())
        }
        Message::Watermark(message) => Watermark::read(message, &SHAPE).map(drop),
        Message::ReplayEnd(message) => read_replay_end(message, &SHAPE).map(drop),
        Message::Tombstone(message) => Tombstone::read(message, &SHAPE).map(drop),
    }
}

fn owner(message: &owner_message::Message) -> Result<(), Invalid> {
    match message {
        owner_message::Message::Commit(commit) => CommitParts::read(commit, &SHAPE).map(drop),
        _ => Ok(()),
    }
}

fn detector(message: &detector_message::Message) -> Result<(), Invalid> {
    match message {
        detector_message::Message::Opened(opened) => Opened::read(opened).map(drop),
        _ => Ok(()),
    }
}
