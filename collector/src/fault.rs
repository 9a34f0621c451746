//! What a decoder says of input that it could not use. Faults are counted by reason and shown with where they happened;
//! they never end a run, and nothing around them is lost.

use std::borrow::Cow;
use std::fmt;

/// Why a piece of input was not (wholly) decoded. The reasons are the labels of the counters, so there are few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Ends before it is complete.
    Truncated,
    /// Magic, version or type that this decoder does not know.
    UnknownFormat,
    /// Data whose template has not been seen (NetFlow v9, IPFIX).
    UnknownTemplate,
    /// A template that can't be used (zero fields, absurd lengths).
    BadTemplate,
    /// A link type that is not decoded.
    UnsupportedLink,
    /// Well-formed, but carries no IP flow (ARP, STP, counters, options, DNS events …).
    NotIp,
    /// Well-formed, but not a network flow (other ECS categories, Zeek logs other than conn).
    NotFlow,
    /// Left out on purpose: traffic of shippers and agents.
    Excluded,
    /// A length or offset that contradicts its surroundings.
    Malformed,
    /// A number or time out of its range.
    OutOfRange,
    /// Text that is no JSON, no UTF-8, or lacks a field that must be there.
    BadLine,
    /// A table bound was reached (templates, exporters, fragments): the oldest entry made room.
    LimitReached,
    /// A record's time lies far from its receipt: the exporter's clock is off. It counts at the time of receipt.
    ClockOff,
}

impl Reason {
    /// The reason as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::UnknownFormat => "unknown_format",
            Self::UnknownTemplate => "unknown_template",
            Self::BadTemplate => "bad_template",
            Self::UnsupportedLink => "unsupported_link",
            Self::NotIp => "not_ip",
            Self::NotFlow => "not_flow",
            Self::Excluded => "excluded",
            Self::Malformed => "malformed",
            Self::OutOfRange => "out_of_range",
            Self::BadLine => "bad_line",
            Self::LimitReached => "limit_reached",
            Self::ClockOff => "clock_off",
        }
    }

    /// True if this is ordinary (something we simply don't count) rather than a defect of the input.
    #[must_use]
    pub fn is_ordinary(self) -> bool {
        matches!(self, Self::NotIp | Self::NotFlow | Self::Excluded)
    }
}

/// One fault: its reason, and for a person what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// Why.
    pub reason: Reason,
    /// What was found and what was expected, without the position (the source knows that). Ordinary
    /// faults are as frequent as packets, so theirs is static text that costs nothing.
    pub detail: Cow<'static, str>,
}

impl Fault {
    /// A fault with its explanation.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.label(), self.detail)
    }
}

/// Where decoders put what they find. One `Decoded` is reused from call to call, so that the hot path does not allocate.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Flow records, in the order found.
    pub records: Vec<spikewatch_domain::record::FlowRecord>,
    /// Faults, in the order found. Bounded by the caller's draining after each datagram, packet or line.
    pub faults: Vec<Fault>,
}

impl Decoded {
    /// Notes a fault.
    pub fn fault(&mut self, reason: Reason, detail: impl Into<Cow<'static, str>>) {
        self.faults.push(Fault::new(reason, detail));
    }
}
