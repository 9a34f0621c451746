//! Windows in columns ([`v1::Windows`]) from and to domain windows. Whoever needs no windows, only what is in them or
//! their columns elsewhere, walks the [`Rows`] or keeps the [`Columns`].

mod columns;
mod row;
mod rows;

use std::net::IpAddr;

use spikewatch_domain::{
    key::{SiteName, Subject},
    window::Window,
};

pub use self::{columns::Columns, row::RowRef, rows::Rows};
use super::Invalid;
use crate::v1;

/// Most rows one message may hold.
pub const MAX_ROWS: usize = 1 << 20;
/// Longest user or process name, bytes.
pub const MAX_CONTRIBUTOR_NAME_BYTES: usize = 256;

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
    append_sized(&mut message.keys, |keys| subject.encode(keys));
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
    push_lists(message, window);
    if let Some(overflow) = &window.overflow {
        for distinct in [&overflow.peers, &overflow.ports] {
            let before = message.distinct.len();
            distinct.encode(&mut message.distinct);
            message.distinct_length.push((message.distinct.len() - before) as u32);
        }
    }
    if let Some(names) = &window.names {
        for top in [&names.users, &names.processes] {
            message.name_count.push(top.len() as u32);
            for tally in top.entries() {
                message.names.push(tally.id.to_string());
                message.name_events.push(tally.events);
                message.name_bytes.push(tally.bytes());
                message.name_inherited.push(tally.inherited);
            }
        }
    }
}

fn push_lists(message: &mut v1::Windows, window: &Window) {
    let cut = window.overflow.is_some();
    message.peer_count.push(window.peers.len() as u32);
    for tally in window.peers.entries() {
        append_sized(&mut message.peers, |peers| match IpAddr::from(tally.id) {
            IpAddr::V4(v4) => peers.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => peers.extend_from_slice(&v6.octets()),
        });
        message.peer_events.push(tally.events);
        message.peer_bytes.push(tally.bytes());
        message.peer_bytes_out.push(tally.sent());
        message.peer_inherited.extend(cut.then_some(tally.inherited));
    }
    message.service_count.push(window.services.len() as u32);
    for tally in window.services.entries() {
        message.services.push(u32::from(tally.id.protocol) << 16 | u32::from(tally.id.port));
        message.service_events.push(tally.events);
        message.service_bytes.push(tally.bytes());
        message.service_inherited.extend(cut.then_some(tally.inherited));
    }
}

/// Appends what `write` writes behind one byte of its length.
pub(super) fn append_sized(blob: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = blob.len();
    blob.push(0);
    write(blob);
    let length = u8::try_from(blob.len() - at - 1).unwrap_or(u8::MAX);
    if let Some(place) = blob.get_mut(at) {
        *place = length;
    }
}

/// Reads all rows, in order.
///
/// # Errors
/// If a column is too short or too long, or holds what no window can hold; the error names the column.
pub fn read(message: &v1::Windows) -> Result<Vec<Row>, Invalid> {
    let mut rows = Rows::over(message)?;
    let mut out = Vec::with_capacity(rows.left());
    while let Some(row) = rows.next()? {
        let site = row.site.and_then(|index| rows.sites().get(index as usize)).cloned();
        let (window, incomplete) = (row.window(), row.incomplete);
        out.push(Row { site, subject: row.subject, window, incomplete });
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
