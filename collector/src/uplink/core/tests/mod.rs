//! The core driven by hand. Its disk syncs at once unless a test holds it.

mod budget;
mod lanes;
mod spool;
mod stream;

use super::*;

pub(super) const BUCKET: u64 = 900_000;

pub(super) fn options() -> CoreOptions {
    CoreOptions {
        hello: v1::Hello::default(),
        shards: 4,
        bucket: Span::QUARTER_HOUR,
        max_kept: 8,
        keep_trimmed: false,
        merges: true,
        roll_after: None,
    }
}

/// A core whose writes are durable at once.
pub(super) struct Bench {
    pub(super) core: Core,
    /// Writes become durable only when a test says so.
    pub(super) held: bool,
    pub(super) written: Ticket,
    pub(super) now: u64,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(options())
    }

    pub(super) fn with(options: CoreOptions) -> Self {
        Self { core: Core::new(options), held: false, written: 0, now: 0 }
    }

    pub(super) fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = self.core.on(event, self.now);
        let tickets = actions.iter().filter_map(|action| match action {
            Action::Append { ticket, .. }
            | Action::Mark { ticket, .. }
            | Action::Coarsen { ticket, .. }
            | Action::Drop { ticket, .. } => Some(*ticket),
            _ => None,
        });
        self.written = tickets.max().unwrap_or(self.written).max(self.written);
        if !self.held {
            actions.extend(self.sync());
        }
        actions
    }

    pub(super) fn sync(&mut self) -> Vec<Action> {
        self.core.on(Event::Synced { ticket: self.written }, self.now)
    }

    /// A slice with one row, and one event, for each of `shards`.
    pub(super) fn cut(&mut self, start: u64, shards: &[u32]) -> Vec<Action> {
        self.now = self.now.max(start);
        let holds = Loss { events: 1, bytes: 100 };
        let parts = shards.iter().map(|shard| CutPart { shard: *shard, rows: 1, holds }).collect();
        self.on(Event::Cut { start, parts, stored: 10 })
    }

    pub(super) fn pass(&mut self, time_ms: u64) -> Vec<Action> {
        self.on(Event::Passed { time_ms, last: false })
    }

    /// Opens a stream of the live lane, with plenty of credit.
    pub(super) fn connect(&mut self, link: LinkId) -> Vec<Action> {
        let lane = self.core.lanes().last().unwrap();
        let hello = self.on(Event::Connected { link, lane });
        self.hear(link, Heard::Credit(v1::Credit { rows: 1000 }));
        hello
    }

    pub(super) fn hear(&mut self, link: LinkId, message: Heard) -> Vec<Action> {
        self.on(Event::Message { link, message })
    }

    /// The aggregator owns these shards, under epoch 1, and has this pair of each.
    pub(super) fn welcome(&mut self, link: LinkId, shards: &[u32], pairs: &[(u64, u64)]) -> Vec<Action> {
        self.welcome_under(link, 1, shards, pairs)
    }

    pub(super) fn welcome_under(&mut self, link: LinkId, n: u64, shards: &[u32], pairs: &[(u64, u64)]) -> Vec<Action> {
        let epoch = v1::Epoch { lineage: vec![1; 16], number: n };
        self.hear(
            link,
            Heard::Welcome(v1::Welcome {
                shard: shards.to_vec(),
                epoch: vec![epoch; shards.len()],
                bucket_start_ms: pairs.iter().map(|pair| pair.0).collect(),
                seq: pairs.iter().map(|pair| pair.1).collect(),
                ..v1::Welcome::default()
            }),
        )
    }

    pub(super) fn trim(&mut self, link: LinkId, shard: u32, bucket: u64, seq: u64) -> Vec<Action> {
        let trim = v1::Trim { shard: vec![shard], bucket_start_ms: vec![bucket], seq: vec![seq] };
        self.hear(link, Heard::Trim(trim))
    }

    pub(super) fn receive(&mut self, link: LinkId, shard: u32, seq: u64) -> Vec<Action> {
        self.hear(link, Heard::Receipt(v1::Receipt { shard: vec![shard], seq: vec![seq] }))
    }
}

/// Batches sent: (shard, seq, prev).
pub(super) fn batches(actions: &[Action]) -> Vec<(u32, u64, u64)> {
    let batches = actions.iter().filter_map(|action| match action {
        Action::Send { batches, .. } => Some(batches),
        _ => None,
    });
    batches.flatten().map(|batch| (batch.shard, batch.seq, batch.prev)).collect()
}

/// Messages without contents, in order.
pub(super) fn said(actions: &[Action]) -> Vec<&Said> {
    actions
        .iter()
        .filter_map(|action| if let Action::Say { message, .. } = action { Some(&**message) } else { None })
        .collect()
}

pub(super) fn watermarks(actions: &[Action]) -> Vec<&v1::Watermark> {
    said(actions)
        .into_iter()
        .filter_map(|said| if let Said::Watermark(one) = said { Some(one) } else { None })
        .collect()
}

pub(super) fn tombstones(actions: &[Action]) -> Vec<&v1::Tombstone> {
    said(actions)
        .into_iter()
        .filter_map(|said| if let Said::Tombstone(one) = said { Some(one) } else { None })
        .collect()
}

pub(super) fn binds(actions: &[Action]) -> Vec<&v1::Bind> {
    said(actions).into_iter().filter_map(|said| if let Said::Bind(one) = said { Some(one) } else { None }).collect()
}

pub(super) fn alarms(actions: &[Action]) -> Vec<&Alarm> {
    actions.iter().filter_map(|action| if let Action::Alarm(alarm) = action { Some(alarm) } else { None }).collect()
}
