//! The nouns that more than one role shares: flow record, key, window and its merge, sketches, bucket and shard
//! arithmetic. No I/O, no async, no clock, no configuration: everything here is a pure function of its arguments.

pub mod distinct;
pub mod key;
pub mod network;
pub mod record;
pub mod shard;
pub mod span;
pub mod top;
pub mod window;
