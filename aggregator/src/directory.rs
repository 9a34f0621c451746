//! Where shards are found. The one map that several tasks touch: its guards are locks, so none leaves this file.

use dashmap::DashMap;
use spikewatch_actors::mailbox::Mailbox;

use crate::shard::ShardMessage;

/// Mailboxes of the shards that are assigned to this aggregator.
#[derive(Debug, Default)]
pub(crate) struct Directory(DashMap<u32, Mailbox<ShardMessage>>);

impl Directory {
    /// The shard's mailbox, if it is assigned here.
    pub(crate) fn get(&self, shard: u32) -> Option<Mailbox<ShardMessage>> {
        self.0.get(&shard).map(|entry| entry.value().clone())
    }

    /// The shard's mailbox, made by `start` if it has none yet.
    pub(crate) fn get_or_start(
        &self,
        shard: u32,
        start: impl FnOnce() -> Mailbox<ShardMessage>,
    ) -> Mailbox<ShardMessage> {
        self.0.entry(shard).or_insert_with(start).clone()
    }

    /// Takes a shard out; it ends once nobody holds its mailbox.
    pub(crate) fn remove(&self, shard: u32) -> Option<Mailbox<ShardMessage>> {
        self.0.remove(&shard).map(|(_, mailbox)| mailbox)
    }

    /// All shards in order.
    pub(crate) fn all(&self) -> Vec<(u32, Mailbox<ShardMessage>)> {
        let mut all: Vec<_> = self.0.iter().map(|entry| (*entry.key(), entry.value().clone())).collect();
        all.sort_unstable_by_key(|(shard, _)| *shard);
        all
    }
}
