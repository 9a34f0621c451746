//! Frozen commits, and windows that go ahead of them, in their wire form.

use spikewatch_proto::{
    convert::{cluster::Epoch, commit::write_pair},
    v1,
};

use crate::core::{Commit, Part, Windows};

/// The message of a commit. Rows are ordered by site and subject.
pub(crate) fn commit(shard: u32, commit: &Commit<Windows>, traceparent: &str) -> v1::Commit {
    v1::Commit {
        shard,
        epoch: Some(commit.epoch.into()),
        commit_no: commit.commit_no,
        bucket_start_ms: commit.bucket,
        windows: commit.windows.iter().map(part).collect(),
        corrections: commit.corrections.iter().map(part).collect(),
        pairs: commit.pairs.iter().map(|(of, pair)| write_pair(of, *pair)).collect(),
        missing: commit.missing.iter().map(ToString::to_string).collect(),
        traceparent: traceparent.to_owned(),
    }
}

/// The message of windows that crossed a tripwire. `versions`: those that came with the tripwires.
pub(crate) fn early(shard: u32, epoch: Epoch, windows: &Part<Windows>, versions: (u64, u64)) -> v1::EarlyWindows {
    let (baseline_version, rule_version) = versions;
    v1::EarlyWindows { shard, epoch: Some(epoch.into()), windows: Some(part(windows)), baseline_version, rule_version }
}

fn part(part: &Part<Windows>) -> v1::BucketWindows {
    let sites = part.sites.keys().map(ToString::to_string).collect();
    let mut message = v1::Windows { sites, ..v1::Windows::default() };
    for (index, (site, contents)) in (0u32..).zip(&part.sites) {
        let incomplete = part.incomplete.contains(site);
        contents.write(&mut message, index, incomplete);
    }
    v1::BucketWindows { bucket_start_ms: part.bucket, windows: Some(message) }
}
