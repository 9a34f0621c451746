//! Random work, failures and crashes, against the model.

use proptest::prelude::*;
use spikewatch_collector::spool::{Pair, memory::Faults};

use crate::world::{SHARD_LIST, World, merge, small};

#[derive(Debug, Clone)]
enum Step {
    Slice { bucket: u64, shards: u8, filling: usize },
    Mark { numbering: usize, shard: u32, seq: u64 },
    Trim { numbering: usize, shard: u32, bucket: u64, seq: u64 },
    Checkpoint,
    Roll,
    Sync,
    Maintain,
    Relieve,
    GiveUp { nth: usize },
    Crash,
    Restart,
    Faults(Faults),
}

fn step() -> impl Strategy<Value = Step> {
    let slice = (0u64..3, 1u8..8, 0usize..500);
    let faults = (
        0u64..300,
        0u64..300,
        0u64..900,
        prop_oneof![3 => Just(0u64), 1 => 3_000..20_000u64],
        prop_oneof![2 => Just(0u64), 1 => 1..30u64],
    );
    prop_oneof![
        12 => slice.prop_map(|(bucket, shards, filling)| Step::Slice { bucket, shards, filling }),
        3 => (0usize..4, 0u32..3, 1u64..30).prop_map(|(numbering, shard, seq)| Step::Mark { numbering, shard, seq }),
        5 => (0usize..4, 0u32..3, 0u64..3, 1u64..60)
            .prop_map(|(numbering, shard, bucket, seq)| Step::Trim { numbering, shard, bucket, seq }),
        3 => Just(Step::Checkpoint),
        1 => Just(Step::Roll),
        9 => Just(Step::Sync),
        2 => Just(Step::Maintain),
        3 => Just(Step::Relieve),
        1 => (0usize..20).prop_map(|nth| Step::GiveUp { nth }),
        2 => Just(Step::Crash),
        1 => Just(Step::Restart),
        2 => faults.prop_map(|(write, sync, short_read, capacity, dies_after)| {
            Step::Faults(Faults { write, sync, short_read, capacity, dies_after })
        }),
    ]
}

fn take(world: &mut World, step: &Step, now: &mut u64) {
    match step {
        Step::Slice { bucket, shards, filling } => {
            let shards: Vec<u32> = SHARD_LIST.into_iter().filter(|shard| shards & (1 << shard) != 0).collect();
            let numbering = world.numbering_of_next_slice(*filling % 2 == 0);
            world.slice_of(numbering, *bucket, &shards, *filling);
        }
        Step::Mark { numbering, shard, seq } => {
            let active = world.active();
            world.mark(active[numbering % active.len()], *shard, *seq);
        }
        Step::Trim { numbering, shard, bucket, seq } => {
            let active = world.active();
            world.trim(active[numbering % active.len()], *shard, Pair { bucket: *bucket, seq: *seq });
        }
        Step::Checkpoint => world.checkpoint(),
        Step::Roll => world.roll(),
        Step::Sync => _ = world.sync(),
        Step::Maintain => {
            *now += 600;
            let now = *now;
            if world.spool().maintain(now).is_ok() {
                world.acked = world.history.len() - 1;
            }
        }
        Step::Relieve => {
            if world.spool().relieve(&mut merge).is_ok() {
                world.acked = world.history.len() - 1;
                // What says what was given up takes room itself, and the newest segment can't go.
                let most = world.options.budget_bytes + 2 * world.options.segment_bytes;
                assert!(world.spool().bytes() <= most, "{} bytes", world.spool().bytes());
            }
        }
        Step::GiveUp { nth } => {
            let live: Vec<u64> =
                world.spool().slices().filter(|(_, trimmed)| !trimmed).map(|(meta, _)| meta.slice_no).collect();
            if let Some(slice_no) = live.get(nth % live.len().max(1)) {
                world.spool().give_up(*slice_no).unwrap();
            }
        }
        Step::Crash => world.crash(),
        Step::Restart => {
            // A process that ends without a crash leaves all that was written, but what waits.
            world.memory.set_faults(Faults::default());
            if world.sync().is_ok() {
                world.crash();
            }
        }
        Step::Faults(faults) => world.memory.set_faults(*faults),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_was_synced_is_there_once_and_in_order(
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(seed, small());
        let mut now = 0;
        for step in &steps {
            take(&mut world, step, &mut now);
        }
        world.memory.set_faults(Faults::default());
        world.check();
        world.sync().unwrap();
        world.crash();
        let relieved = world.spool().relieve(&mut merge).unwrap();
        prop_assert!(relieved.len() < 1_000);
        world.check();
    }
}
