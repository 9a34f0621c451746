//! Each rule taken away by itself: the checker has to find what then goes wrong. A rule whose absence nobody notices is not
//! checked by this model.

use super::*;
use crate::{centre, site};

/// Enough for most: one batch a bucket, one of them late.
const CRASH: Budget = Budget { aggregator: 1, ..NOTHING };
const CUT: Budget = Budget { collector: 1, ..NOTHING };
const TWO: [&[u64]; 2] = [&[1, 2], &[]];
const LATER: [&[u64]; 2] = [&[1, 1], &[]];

fn without(missing: Missing, script: [&'static [u64]; 2], budget: Budget) -> Delivery {
    Delivery { missing, ..Delivery::new(script, budget) }
}

#[test]
fn a1_the_barrier() {
    noticed("A1, no barrier", without(Missing::Barrier, TWO, CRASH));
}

#[test]
fn a1_the_pair() {
    noticed("A1, no pair", without(Missing::Pairs, TWO, CRASH));
}

#[test]
fn a2_what_was_received() {
    noticed("A2", without(Missing::Received, LATER, CUT));
}

#[test]
fn a3_commit_numbers() {
    let budget = Budget { duplicate: 1, ..NOTHING };
    noticed("A3", Delivery { centre_fault: centre::Fault::AnyNumber, ..Delivery::new(TWO, budget) });
}

#[test]
fn a4_the_seal() {
    noticed("A4", without(Missing::Sealed, TWO, CUT));
}

#[test]
fn a5_streams_bound_to_epochs() {
    let budget = Budget { steal: 2, ..NOTHING };
    noticed("A5", Delivery { missing: Missing::Binding, ..Delivery::new(LATER, budget) });
}

#[test]
fn a6_commits_of_corrections() {
    noticed("A6", Delivery { settles: 1, ..without(Missing::CorrectionCommits, LATER, NOTHING) });
}

#[test]
fn a7_the_term() {
    let budget = Budget { leader: 1, ..NOTHING };
    noticed("A7", Delivery { centre_fault: centre::Fault::AnyTerm, ..Delivery::new(TWO, budget) });
}

#[test]
fn a8_the_mark() {
    let budget = Budget { full: 1, collector: 2, ..NOTHING };
    let script: [&[u64]; 2] = [&[1, 1, 2], &[]];
    noticed("A8, no mark", Delivery { site_fault: site::Fault::ForgetsMarks, ..Delivery::new(script, budget) });
}

#[test]
fn a8_the_tombstone() {
    let budget = Budget { full: 1, ..NOTHING };
    let site_fault = site::Fault::DropsSilently;
    noticed("A8, no tombstone", Delivery { site_fault, settles: 1, ..Delivery::new(TWO, budget) });
}

#[test]
fn the_epoch() {
    let budget = Budget { steal: 1, ..NOTHING };
    noticed("no epoch check", Delivery { centre_fault: centre::Fault::AnyEpoch, ..Delivery::new(TWO, budget) });
}

#[test]
fn trim_after_commit() {
    noticed("trim on receipt", without(Missing::TrimAfterCommit, TWO, NOTHING));
}

#[test]
fn pending_corrections() {
    noticed("commit without pending corrections", without(Missing::Corrections, TWO, NOTHING));
}

#[test]
fn resume_at_the_lowest() {
    noticed(
        "resume after the last sent",
        Delivery { site_fault: site::Fault::ResumesAfterSent, ..Delivery::new(LATER, CUT) },
    );
}
