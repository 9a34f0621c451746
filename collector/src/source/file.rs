//! One file, whatever its format: opened, decompressed, recognised, and read item by item.

mod error;
mod exports;
mod paths;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::atomic::Ordering::Relaxed,
};

use serde::{Deserialize, Serialize};
use spikewatch_domain::record::{EventMillis, FlowRecord};

use crate::{
    compressed,
    export::{export_time, recognise as recognise_export, split},
    fault::{Decoded, Fault, Reason},
    log::{
        ecs::{EcsDecoder, EcsOptions},
        zeek::ZeekDecoder,
    },
    metrics::Metrics,
    packet::{capture::CaptureReader, headers::dissect},
    pipeline::LATEST,
    recognise::{Format, recognise},
};

use super::lines::{LineDecoder, MAX_LINE};

pub use error::FileError;
use exports::holds_exports;
pub use paths::expand;

/// How much of a file is looked at to tell its format.
const HEAD: usize = 64 * 1024;
/// Largest file of raw datagrams; one is a handful of datagrams, not a capture.
const MAX_RAW: u64 = 64 << 20;

/// What the user says a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum Expected {
    /// It is told from the content.
    #[default]
    Auto,
    /// Packets are traffic, even if they carry exports.
    Packets,
    /// NetFlow or IPFIX: raw datagrams, or a capture of them.
    Netflow,
    /// sFlow, likewise.
    Sflow,
    /// ECS documents.
    Ecs,
    /// Zeek conn logs.
    Zeek,
}

impl Expected {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Packets => "pcap",
            Self::Netflow => "netflow",
            Self::Sflow => "sflow",
            Self::Ecs => "ecs",
            Self::Zeek => "zeek",
        }
    }
}

/// One thing read from a file. Buffers are the file's own and live until the next read.
#[derive(Debug)]
pub enum Item<'a> {
    /// A captured packet.
    Packet {
        /// LINKTYPE_ number.
        link: u16,
        /// Length on the wire, bytes.
        original_length: u32,
        /// What was captured.
        data: &'a [u8],
    },
    /// An export datagram.
    Datagram {
        /// Who sent it.
        exporter: IpAddr,
        /// UDP payload.
        payload: &'a [u8],
    },
    /// Flow records of one line.
    Records(&'a mut Vec<FlowRecord>),
}

/// An open file, positioned at an item.
pub struct OpenFile {
    name: String,
    content: Content,
    metrics: Metrics,
    time: EventMillis,
    /// Offset of the current packet or datagram, or number of the current line.
    place: u64,
}

enum Content {
    Capture { reader: CaptureReader<Box<dyn Read + Send>>, packet: Packet, exports: Option<Exports> },
    Raw { bytes: Vec<u8>, ends: std::vec::IntoIter<std::ops::Range<usize>>, current: std::ops::Range<usize> },
    Lines { reader: Box<dyn BufRead + Send>, line: Vec<u8>, decoder: LineDecoder, decoded: Decoded },
}

/// Which exports a capture is read for.
#[derive(Debug, Clone, Copy)]
struct Exports;

#[derive(Default)]
struct Packet {
    link: u16,
    original_length: u32,
    data: Vec<u8>,
    datagram: Option<(IpAddr, std::ops::Range<usize>)>,
}

impl OpenFile {
    /// Opens `path` (`-` is standard input) and tells what it holds.
    ///
    /// # Errors
    /// If it can't be read, or holds nothing known.
    pub fn open(path: &Path, expected: Expected, ecs: &EcsOptions, metrics: &Metrics) -> Result<Self, FileError> {
        let name = path.display().to_string();
        let io_error = |error| FileError::Io { path: name.clone(), error };
        let stored: Box<dyn Read + Send> =
            if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(io_error)?) };
        let counted = Counted { inner: stored, metrics: metrics.clone() };
        let mut reader = compressed::open(BufReader::with_capacity(256 * 1024, counted)).map_err(io_error)?;
        let mut head = Vec::with_capacity(HEAD);
        reader.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(io_error)?;
        let format = recognise(&head).map_err(|error| FileError::Unrecognised { path: name.clone(), error })?;
        let content = Self::content(&name, format, expected, ecs, head, reader)?;
        Ok(Self { name, content, metrics: metrics.clone(), time: 0, place: 0 })
    }

    fn content(
        name: &str,
        format: Format,
        expected: Expected,
        ecs: &EcsOptions,
        head: Vec<u8>,
        reader: Box<dyn BufRead + Send>,
    ) -> Result<Content, FileError> {
        let unexpected = |found, expected| Err(FileError::Unexpected { path: name.to_owned(), found, expected });
        let exports = match (format, expected) {
            (Format::Pcap | Format::Pcapng, Expected::Auto) => holds_exports(&head).then_some(Exports),
            (Format::Pcap | Format::Pcapng, Expected::Netflow | Expected::Sflow) => Some(Exports),
            (Format::Pcap | Format::Pcapng, Expected::Packets) => None,
            (Format::Pcap | Format::Pcapng, Expected::Ecs | Expected::Zeek) => {
                return unexpected("a packet capture", expected.name());
            }
            (Format::Netflow, Expected::Auto | Expected::Netflow) => None,
            (Format::Netflow, _) => return unexpected("NetFlow datagrams", expected.name()),
            (Format::Sflow, Expected::Auto | Expected::Sflow) => None,
            (Format::Sflow, _) => return unexpected("sFlow datagrams", expected.name()),
            (Format::Ecs, Expected::Auto | Expected::Ecs) => None,
            (Format::Ecs, _) => return unexpected("ECS documents", expected.name()),
            (Format::ZeekTsv | Format::ZeekJson, Expected::Auto | Expected::Zeek) => None,
            (Format::ZeekTsv | Format::ZeekJson, _) => return unexpected("a Zeek log", expected.name()),
        };
        let mut whole = Cursor::new(head).chain(reader);
        let lines = |reader: Box<dyn BufRead + Send>, decoder| Content::Lines {
            reader,
            line: Vec::new(),
            decoder,
            decoded: Decoded::default(),
        };
        Ok(match format {
            Format::Pcap | Format::Pcapng => {
                let capture_error = |error| FileError::Capture { path: name.to_owned(), error };
                let reader = CaptureReader::open(Box::new(whole) as Box<dyn Read + Send>).map_err(capture_error)?;
                Content::Capture { reader, packet: Packet::default(), exports }
            }
            Format::Netflow | Format::Sflow => {
                let mut bytes = Vec::new();
                let io_error = |error| FileError::Io { path: name.to_owned(), error };
                whole.by_ref().take(MAX_RAW + 1).read_to_end(&mut bytes).map_err(io_error)?;
                if bytes.len() as u64 > MAX_RAW {
                    return Err(FileError::TooLarge { path: name.to_owned() });
                }
                let mut end = 0;
                let ranges: Vec<_> = split(&bytes)
                    .map(|message| {
                        let start = end;
                        end += message.len();
                        start..end
                    })
                    .collect();
                Content::Raw { bytes, ends: ranges.into_iter(), current: 0..0 }
            }
            Format::Ecs => lines(Box::new(whole), LineDecoder::Ecs(EcsDecoder::new(ecs.clone()))),
            Format::ZeekTsv | Format::ZeekJson => lines(Box::new(whole), LineDecoder::Zeek(ZeekDecoder::new())),
        })
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True for files of raw datagrams, which carry no time of receipt and are read in the order given.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        matches!(self.content, Content::Raw { .. })
    }

    /// Event time of the current item.
    #[must_use]
    pub fn time(&self) -> EventMillis {
        self.time
    }

    /// Counts a fault of the current item.
    pub fn fault(&self, fault: &Fault) {
        let place = || match self.content {
            Content::Lines { .. } => format!("line {}", self.place),
            Content::Capture { .. } | Content::Raw { .. } => format!("offset {}", self.place),
        };
        self.metrics.fault(&self.name, place, fault);
    }

    /// Goes to the next item that is of use; false at the end. Faults on the way are counted.
    ///
    /// # Errors
    /// If the file can't be read any further.
    pub fn advance(&mut self) -> Result<bool, FileError> {
        loop {
            let fault = match &mut self.content {
                Content::Capture { reader, packet, exports } => {
                    let capture = |error| FileError::Capture { path: self.name.clone(), error };
                    let Some(captured) = reader.next().map_err(capture)? else { return Ok(false) };
                    Metrics::add(&self.metrics.counters().packets, 1);
                    (self.time, self.place) = (captured.time_ms, captured.offset);
                    (packet.link, packet.original_length) = (captured.link, captured.original_length);
                    packet.data.clear();
                    packet.data.extend_from_slice(captured.data);
                    match exports {
                        None => return Ok(true),
                        Some(Exports) => match exported(packet) {
                            Ok(datagram) => {
                                packet.datagram = Some(datagram);
                                return Ok(true);
                            }
                            Err(fault) => fault,
                        },
                    }
                }
                Content::Raw { bytes, ends, current } => {
                    let Some(next) = ends.next() else { return Ok(false) };
                    self.place = next.start as u64;
                    let payload = bytes.get(next.clone()).unwrap_or_default();
                    // sFlow tells no time of its own; it is taken to come when what came before it did.
                    self.time = export_time(payload).unwrap_or(self.time).min(LATEST);
                    *current = next;
                    return Ok(true);
                }
                Content::Lines { reader, line, decoder, decoded } => {
                    let io_error = |error| FileError::Io { path: self.name.clone(), error };
                    let Some(fits) = read_line(reader, line).map_err(io_error)? else { return Ok(false) };
                    self.place += 1;
                    Metrics::add(&self.metrics.counters().lines, 1);
                    if fits {
                        decoder.decode(line, decoded);
                    } else {
                        decoded.fault(Reason::BadLine, format!("a line longer than {MAX_LINE} bytes"));
                    }
                    decoded.records.retain(|record| {
                        let absurd = record.end > LATEST;
                        if absurd {
                            let found = format!("event time {} ms lies after the year 2106", record.end);
                            decoded.faults.push(Fault::new(Reason::OutOfRange, found));
                        }
                        !absurd
                    });
                    if let Some(end) = decoded.records.iter().map(|record| record.end).max() {
                        self.time = end;
                        return Ok(true);
                    }
                    match decoded.faults.pop() {
                        Some(fault) => {
                            decoded.faults.clear();
                            fault
                        }
                        None => continue,
                    }
                }
            };
            self.fault(&fault);
        }
    }

    /// The current item.
    pub fn item(&mut self) -> Item<'_> {
        match &mut self.content {
            Content::Capture { packet, .. } => match &packet.datagram {
                Some((exporter, range)) => {
                    Item::Datagram { exporter: *exporter, payload: packet.data.get(range.clone()).unwrap_or_default() }
                }
                None => Item::Packet { link: packet.link, original_length: packet.original_length, data: &packet.data },
            },
            Content::Raw { bytes, current, .. } => Item::Datagram {
                exporter: Ipv4Addr::UNSPECIFIED.into(),
                payload: bytes.get(current.clone()).unwrap_or_default(),
            },
            Content::Lines { decoded, .. } => Item::Records(&mut decoded.records),
        }
    }
}

fn exported(packet: &Packet) -> Result<(IpAddr, std::ops::Range<usize>), Fault> {
    let dissected = dissect(packet.link, packet.original_length, &packet.data)?;
    let (start, length) =
        dissected.udp_payload.ok_or_else(|| Fault::new(Reason::NotFlow, "a packet that is no UDP datagram"))?;
    let range = start..start + length;
    let known = packet.data.get(range.clone()).is_some_and(|payload| recognise_export(payload).is_some());
    known
        .then_some((dissected.source, range))
        .ok_or_else(|| Fault::new(Reason::UnknownFormat, "a UDP datagram that is no export"))
}

/// Reads a line without its end; `None` at the end of the file, `Some(false)` (and nothing in `line`) if it is too long.
fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    if reader.take(MAX_LINE as u64 + 1).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.len() > MAX_LINE && line.last() != Some(&b'\n') {
        line.clear();
        reader.skip_until(b'\n')?;
        return Ok(Some(false));
    }
    Ok(Some(true))
}

/// Counts what is read as it is stored, for the progress bar.
struct Counted {
    inner: Box<dyn Read + Send>,
    metrics: Metrics,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.metrics.counters().bytes_read.fetch_add(read as u64, Relaxed);
        Ok(read)
    }
}
