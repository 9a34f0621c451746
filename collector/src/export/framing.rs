//! What the first bytes and the lengths of a datagram tell: its format, its time, and where it ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cursor::Cursor;
use super::{message, netflow5, sflow};

/// An export format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum ExportFormat {
    /// NetFlow version 5.
    NetFlow5,
    /// NetFlow version 9 (RFC 3954).
    NetFlow9,
    /// IPFIX (RFC 7011).
    Ipfix,
    /// sFlow version 5.
    Sflow5,
}

impl ExportFormat {
    /// The format that the version number at the start names.
    pub(super) fn of(payload: &[u8]) -> Option<Self> {
        match payload {
            [0, 5, ..] => Some(Self::NetFlow5),
            [0, 9, ..] => Some(Self::NetFlow9),
            [0, 10, ..] => Some(Self::Ipfix),
            [0, 0, 0, 5, ..] => Some(Self::Sflow5),
            _ => None,
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetFlow5 => "NetFlow v5",
            Self::NetFlow9 => "NetFlow v9",
            Self::Ipfix => "IPFIX",
            Self::Sflow5 => "sFlow v5",
        })
    }
}

/// Is this an export datagram (or do some, one after another, begin here)? Looks at the first bytes and lengths only.
#[must_use]
pub fn recognise(payload: &[u8]) -> Option<ExportFormat> {
    let format = ExportFormat::of(payload)?;
    let mut from = Cursor::new(payload, 0);
    let plausible = match format {
        ExportFormat::NetFlow5 => {
            let header = netflow5::Header::read(&mut from).ok()?;
            from.rest().len() >= usize::from(header.count) * netflow5::RECORD
        }
        ExportFormat::NetFlow9 => {
            message::Header::netflow9(&mut from)?;
            set_fits(from, |id| id < 2)
        }
        ExportFormat::Ipfix => {
            let length = message::Header::ipfix(&mut from)?.length?.checked_sub(from.offset())?;
            let body = from.part(length)?;
            body.rest().is_empty() || set_fits(body, |id| id == 2 || id == 3)
        }
        ExportFormat::Sflow5 => {
            let header = sflow::Header::read(&mut from)?;
            header.samples == 0 || sample(&mut from).is_some()
        }
    };
    plausible.then_some(format)
}

/// The time of export that a datagram's header tells, ms since 1970. sFlow's tells none.
#[must_use]
pub fn export_time(payload: &[u8]) -> Option<u64> {
    let mut from = Cursor::new(payload, 0);
    let seconds = match ExportFormat::of(payload)? {
        ExportFormat::NetFlow5 => return netflow5::Header::read(&mut from).ok().map(|header| header.export_ms),
        ExportFormat::NetFlow9 => message::Header::netflow9(&mut from)?.export_seconds,
        ExportFormat::Ipfix => message::Header::ipfix(&mut from)?.export_seconds,
        ExportFormat::Sflow5 => return None,
    };
    Some(u64::from(seconds) * 1000)
}

/// Splits a file of raw datagrams, one after another, into the datagrams. Their ends are where their counts and lengths say;
/// what is no datagram (any more) is given as the last part, for the decoder to tell what it is.
pub fn split(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = file;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = end(rest).filter(|end| (1..=rest.len()).contains(end)).unwrap_or(rest.len());
        let (datagram, after) = rest.split_at_checked(end)?;
        // What follows must look like a datagram; otherwise (padding, a wrong count) it belongs to this one.
        if recognise(after).is_none() {
            return Some(std::mem::take(&mut rest));
        }
        rest = after;
        Some(datagram)
    })
}

/// Length of the datagram that `file` begins with, as far as it tells.
fn end(file: &[u8]) -> Option<usize> {
    let mut from = Cursor::new(file, 0);
    match ExportFormat::of(file)? {
        ExportFormat::NetFlow5 => {
            let header = netflow5::Header::read(&mut from).ok()?;
            Some(netflow5::HEADER + usize::from(header.count) * netflow5::RECORD)
        }
        ExportFormat::NetFlow9 => {
            message::Header::netflow9(&mut from)?;
            // Ids 2 to 255 can't begin a set, but the version numbers of all formats can be told from one.
            while set(&mut from, |id| id < 2).is_some() {}
            Some(from.offset())
        }
        ExportFormat::Ipfix => message::Header::ipfix(&mut from)?.length,
        ExportFormat::Sflow5 => {
            let header = sflow::Header::read(&mut from)?;
            for _ in 0..header.samples {
                sample(&mut from)?;
            }
            Some(from.offset())
        }
    }
}

fn set_fits(mut from: Cursor<'_>, is_template_set: impl Fn(u16) -> bool) -> bool {
    set(&mut from, is_template_set).is_some()
}

/// Skips a set of NetFlow v9 or IPFIX; `None`, and nothing skipped, if there is none.
fn set(from: &mut Cursor<'_>, is_template_set: impl Fn(u16) -> bool) -> Option<()> {
    let mut ahead = *from;
    let (id, length) = (ahead.u16()?, ahead.u16()?);
    if !is_template_set(id) && id < 256 {
        return None;
    }
    ahead.part(usize::from(length).checked_sub(4)?)?;
    // The shortest template set is longer; an sFlow datagram would look like one of 5 bytes.
    if length <= 5 {
        return None;
    }
    *from = ahead;
    Some(())
}

/// Skips a sample of sFlow.
fn sample(from: &mut Cursor<'_>) -> Option<()> {
    let (_kind, length) = (from.u32()?, from.u32()?);
    from.part(usize::try_from(length).ok()?).map(|_| ())
}
