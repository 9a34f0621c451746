//! Windows in columns ([`v1::Windows`]) from and to domain windows.

use std::net::IpAddr;

use spikewatch_domain::{
    distinct::Distinct,
    key::{SiteName, Subject},
    top::{Tally, Top},
    window::{Counters, Names, Overflow, Peer, Service, TOP_NAMES, TOP_PEERS, TOP_SERVICES, Window},
};

use super::Invalid;
use crate::v1;

/// Most rows one message may hold.
pub const MAX_ROWS: usize = 1 << 20;

const ESTIMATED: u32 = 1;
const OVERFLOW: u32 = 2;
const NAMES: u32 = 4;
const INCOMPLETE: u32 = 8;

/// One row of a [`v1::Windows`] message.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The site, where the message names sites.
    pub site: Option<SiteName>,
    /// What the window is about.
    pub subject: Subject,
    /// The window.
    pub window: Window,
    /// A member of its site is missing.
    pub incomplete: bool,
}

/// Appends one window. `site` is an index into `message.sites`, or `None` where the stream has one site.
pub fn push(message: &mut v1::Windows, site: Option<u32>, subject: &Subject, window: &Window, incomplete: bool) {
    let at = message.keys.len();
    let mut keys = std::mem::take(&mut message.keys);
    let _ = at;
    keys = push_key(keys, subject);
    message.keys = keys;
    message.site.extend(site);
    let counters = &window.counters;
    message.events.push(counters.events);
    message.bytes_out.push(counters.bytes_out);
    message.bytes_in.push(counters.bytes_in);
    message.packets_out.push(counters.packets_out);
    message.packets_in.push(counters.packets_in);
    message.denied.push(counters.denied);
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    message.flags.push(
        bit(counters.estimated, ESTIMATED)
            | bit(window.overflow.is_some(), OVERFLOW)
            | bit(window.names.is_some(), NAMES)
            | bit(incomplete, INCOMPLETE),
    );
}
