//! From here on nothing goes wrong any more: does everything get counted?

use crate::{
    model::Delivery,
    site::Site,
    world::{Budget, World},
};

/// More rounds than any state needs.
const ROUNDS: usize = 12;
/// More messages than any stream holds.
const MESSAGES: usize = 16;

/// True if, from this state on, a fair course of events counts every batch once that was not dropped, and every collector
/// learns it.
pub(crate) fn settles(model: &Delivery, from: &World) -> bool {
    let mut world = from.clone();
    world.budget = Budget::default();
    while world.centre.leaders.len() > 1 {
        world.centre.leaders.remove(0);
    }
    let last = model.script.iter().flat_map(|buckets| buckets.iter()).copied().max().unwrap_or(1);
    for round in 0..ROUNDS {
        let owner = world.newest_owner().unwrap_or_else(|| {
            world.open(0, model.missing);
            0
        });
        for site in 0..2 {
            let linked = world.sites[site].link.as_ref().is_some_and(|link| link.to == owner);
            if !linked || round == 0 {
                world.connect(site, owner, false);
            }
            world.sites[site].sync();
            // A stream that is reset for ever never gets empty.
            for _ in 0..MESSAGES {
                world.deliver(site);
            }
        }
        world.tick(owner, last);
        if world.is_stuck(owner) {
            world.resend(owner);
        }
        while !world.commits.is_empty() {
            world.handle(0, 0, false);
        }
        while !world.answers.is_empty() {
            world.answer(0);
        }
        (0..2).for_each(|site| world.hear_trim(site));
        if is_settled(model, &world) {
            return true;
        }
    }
    false
}

fn is_settled(model: &Delivery, world: &World) -> bool {
    let accounted = World::batches(&model.script).all(|batch| {
        let site = &world.sites[usize::from(batch.site)];
        match world.centre.store.counted.times(batch) {
            0 => site.dropped.times(batch) == 1,
            times => times == 1,
        }
    });
    let told = world.sites.iter().all(|site| site.disk.slices.is_empty() && site.core.tombstones().next().is_none());
    // Every real loss was told to an owner. What was told may be more: it may have been counted after all.
    let real =
        |site: &Site| site.dropped.0.keys().filter(|batch| world.centre.store.counted.times(**batch) == 0).count();
    let reported = world.sites.iter().map(real).sum::<usize>() <= usize::from(world.lost)
        && world.sites.iter().all(|site| site.taken_back + real(site) as u64 <= site.reported);
    accounted && told && reported
}
