//! What may happen next, and what must hold in every state.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use stateright::{Model, Property};

use crate::{
    centre::{self, Centre},
    rule::Missing,
    settle::settles,
    site::{self, Site, shape},
    world::{Budget, World},
};

/// A script of two collectors, what may go wrong, and which rule is missing.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// The buckets (minutes) of each collector's batches, in the order of their numbers.
    pub(crate) script: [&'static [u64]; 2],
    pub(crate) budget: Budget,
    /// Both have vouched for all before that minute.
    pub(crate) passed: Option<u64>,
    /// What is written is durable only when the disk says so.
    pub(crate) slow_disk: bool,
    pub(crate) missing: Missing,
    pub(crate) site_fault: site::Fault,
    pub(crate) centre_fault: centre::Fault,
    /// One state in so many is asked whether all is well in the end. 0: none.
    pub(crate) settles: u64,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Open { owner: usize },
    CrashOwner { owner: usize },
    Connect { site: usize, to: usize, lingers: bool },
    Cut { site: usize, lingers: bool },
    CrashSite { site: usize, lingers: bool },
    Deliver { site: usize },
    DeliverStale { site: usize, to: usize },
    Trim { site: usize },
    Sync { site: usize },
    Full { site: usize },
    Close { owner: usize, bucket: u64 },
    Resend { owner: usize },
    Handle { commit: usize, leader: usize, copy: bool },
    LoseCommit { commit: usize },
    Answer { answer: usize },
    LoseAnswer { answer: usize },
    CrashCentre,
    TakeOver,
}

impl Delivery {
    /// A script without anything that goes wrong.
    pub(crate) fn new(script: [&'static [u64]; 2], budget: Budget) -> Self {
        Self {
            script,
            budget,
            passed: None,
            slow_disk: false,
            missing: Missing::None,
            site_fault: site::Fault::None,
            centre_fault: centre::Fault::None,
            settles: 0,
        }
    }

    fn last_bucket(&self) -> u64 {
        self.script.iter().flat_map(|buckets| buckets.iter()).copied().max().unwrap_or(1)
    }

    /// What is left of the budget after the step; none if it can't be paid.
    fn pays(world: &World, step: Step) -> Option<Budget> {
        let mut left = world.budget;
        let budget = &mut left;
        let from = match step {
            Step::Open { .. } if world.newest_owner().is_some() => &mut budget.steal,
            Step::CrashOwner { .. } => &mut budget.aggregator,
            Step::Connect { site, to, .. } => {
                let epoch = |number: usize| world.owners[number].as_ref().map(|owner| owner.core.epoch().number);
                let Some(link) = &world.sites[site].link else { return Some(left) };
                if epoch(to) > epoch(link.to) {
                    return Some(left);
                }
                &mut budget.collector
            }
            Step::Cut { .. } | Step::CrashSite { .. } => &mut budget.collector,
            Step::Full { .. } => &mut budget.full,
            Step::Handle { copy: true, .. } => &mut budget.duplicate,
            Step::LoseCommit { .. } | Step::LoseAnswer { .. } => &mut budget.lose,
            Step::CrashCentre => &mut budget.detector,
            Step::TakeOver => &mut budget.leader,
            _ => return Some(left),
        };
        *from = from.checked_sub(1)?;
        Some(left)
    }

    fn site_steps(&self, world: &World, site: usize, steps: &mut Vec<Step>) {
        let at = &world.sites[site];
        let may_linger = |lingers: &bool| !lingers || at.link.as_ref().is_some_and(|link| !link.queue.is_empty());
        for lingers in [false, true].into_iter().filter(may_linger) {
            for to in (0..2).filter(|to| world.owners[*to].is_some()) {
                steps.push(Step::Connect { site, to, lingers });
            }
            steps.extend(at.link.is_some().then_some(Step::Cut { site, lingers }));
            steps.push(Step::CrashSite { site, lingers });
        }
        let open =
            at.link.as_ref().filter(|link| world.owners[link.to].as_ref().is_none_or(|owner| !owner.bent.closed));
        if let Some(link) = open {
            steps.extend((!link.queue.is_empty()).then_some(Step::Deliver { site }));
            steps.extend(link.trim.is_some().then_some(Step::Trim { site }));
        }
        steps.extend((0..2).filter(|to| at.stale[*to].is_some()).map(|to| Step::DeliverStale { site, to }));
        steps.extend((!at.unsynced.is_empty()).then_some(Step::Sync { site }));
        steps.push(Step::Full { site });
    }

    fn centre_steps(&self, world: &World, steps: &mut Vec<Step>) {
        for commit in 0..world.commits.len() {
            for leader in 0..world.centre.leaders.len() {
                steps.extend([false, true].map(|copy| Step::Handle { commit, leader, copy }));
            }
            steps.push(Step::LoseCommit { commit });
        }
        for answer in 0..world.answers.len() {
            steps.extend([Step::Answer { answer }, Step::LoseAnswer { answer }]);
        }
        steps.extend([Step::CrashCentre, Step::TakeOver]);
    }
}

/// Does what a step says.
pub(crate) fn walk(world: &mut World, step: Step, missing: Missing) {
    match step {
        Step::Open { owner } => world.open(owner, missing),
        Step::CrashOwner { owner } => world.crash_owner(owner),
        Step::Connect { site, to, lingers } => world.connect(site, to, lingers),
        Step::Cut { site, lingers } => world.leave(site, lingers),
        Step::CrashSite { site, lingers } => {
            world.leave(site, lingers);
            world.sites[site].restart();
        }
        Step::Deliver { site } => world.deliver(site),
        Step::DeliverStale { site, to } => world.deliver_stale(site, to),
        Step::Trim { site } => world.hear_trim(site),
        Step::Sync { site } => world.sites[site].sync(),
        Step::Full { site } => world.sites[site].fill(),
        Step::Close { owner, bucket } => world.tick(owner, bucket),
        Step::Resend { owner } => world.resend(owner),
        Step::Handle { commit, leader, copy } => world.handle(commit, leader, copy),
        Step::LoseCommit { commit } => drop(world.commits.remove(commit)),
        Step::Answer { answer } => world.answer(answer),
        Step::LoseAnswer { answer } => drop(world.answers.remove(answer)),
        Step::CrashCentre => {
            (world.commits, world.answers) = (Vec::new(), Vec::new());
            world.centre.crash();
        }
        Step::TakeOver => world.centre.take_over(),
    }
}

fn hash(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

impl Model for Delivery {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let site = |number: usize| Site::new(number, self.script[number], self.passed, self.slow_disk, self.site_fault);
        vec![World {
            sites: [site(0), site(1)],
            owners: [None, None],
            centre: Centre::new(self.centre_fault),
            commits: Vec::new(),
            answers: Vec::new(),
            budget: self.budget,
            lost: 0,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        for owner in 0..2 {
            match &world.owners[owner] {
                Some(at) if !at.bent.closed => {
                    steps.push(Step::CrashOwner { owner });
                    steps.extend((1..=self.last_bucket()).map(|bucket| Step::Close { owner, bucket }));
                    steps.extend(world.is_stuck(owner).then_some(Step::Resend { owner }));
                }
                _ => steps.push(Step::Open { owner }),
            }
        }
        (0..2).for_each(|site| self.site_steps(world, site, steps));
        self.centre_steps(world, steps);
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let budget = Self::pays(before, step)?;
        let mut world = before.clone();
        world.budget = budget;
        walk(&mut world, step, self.missing);
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is counted twice", |model: &Self, world: &World| {
                World::batches(&model.script).all(|batch| world.centre.store.counted.times(batch) <= 1)
            }),
            Property::always("what is not kept any more is counted, or was dropped", |model: &Self, world: &World| {
                World::batches(&model.script).all(|batch| {
                    let site = &world.sites[usize::from(batch.site)];
                    world.centre.store.counted.times(batch) == 1 || site.dropped.times(batch) > 0 || site.keeps(batch)
                })
            }),
            Property::always("what pairs cover is counted, and nothing else", |_: &Self, world: &World| {
                (0..2).all(|site| {
                    let pair = world.centre.store.pair(site);
                    world.sites[site].disk.slices.values().all(|slice| {
                        let covered = pair.covers(shape().bucket.floor(slice.start), slice.seq);
                        let counted = |batch| world.centre.store.counted.times(batch);
                        slice.content.0.keys().all(|batch| counted(*batch) == u8::from(covered))
                    })
                })
            }),
            Property::always("frontier, pairs, epoch and term never go back", |_: &Self, world: &World| {
                !world.centre.store.went_back
            }),
            Property::always("the newest leader knows what is durable", |_: &Self, world: &World| {
                world.centre.is_current()
            }),
            Property::always("in the end all is counted, or reported dropped", |model: &Self, world: &World| {
                model.settles == 0 || !hash(world).is_multiple_of(model.settles) || settles(model, world)
            }),
        ]
    }
}
