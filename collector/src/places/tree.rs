//! The search tree of a MaxMind DB file: a binary tree over the bits of an address. A record of a node leads to another
//! node, to nothing, or into the data section that follows the tree.

use std::{net::IpAddr, ops::Range};

use super::data::{Broken, Data, Value};

/// Before the metadata, which are the last of a file.
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// Metadata take at most so much.
const MOST_METADATA: usize = 128 << 10;
/// Zeros between tree and data.
const SEPARATOR: usize = 16;

/// Why a file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFile {
    /// The marker is nowhere.
    #[error("no MaxMind DB file: the metadata that end one (after \\xab\\xcd\\xefMaxMind.com) are not there")]
    NoMetadata,
    /// A field of the metadata can't be.
    #[error("its metadata say {field} = {found}; expected {expected}")]
    Metadata {
        /// The field.
        field: &'static str,
        /// What it holds, or "nothing".
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// It is shorter than its metadata say.
    #[error("it is cut: a tree of {nodes} nodes of {bits} bits takes more than its {bytes} bytes")]
    Cut {
        /// Nodes.
        nodes: u32,
        /// Bits of a record, of which a node has two.
        bits: u64,
        /// Bytes of the file before its metadata.
        bytes: usize,
    },
    /// A record leads out of the file.
    #[error("node {node} of its tree leads to {record}, which is neither a node nor in the data")]
    Astray {
        /// The node.
        node: u32,
        /// What it says.
        record: u32,
    },
    /// A value of the metadata or the data is none.
    #[error("{0}")]
    Broken(#[from] Broken),
    /// It is of another kind.
    #[error("it is a {kind:?}, of which no record has {expected}")]
    Other {
        /// What it calls itself.
        kind: String,
        /// What was looked for.
        expected: &'static str,
    },
}

/// A file in memory, its records all within it.
pub(super) struct Tree {
    bytes: Vec<u8>,
    nodes: u32,
    /// Bytes of a node: 6, 7 or 8.
    node_bytes: usize,
    has_v6: bool,
    /// Where IPv4 addresses begin: in a tree for IPv6 behind 96 zeros.
    v4: u32,
    data: Range<usize>,
    kind: String,
    built: u64,
}

impl Tree {
    /// Takes the content of a file.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self, InvalidFile> {
        let from = bytes.len().saturating_sub(MOST_METADATA);
        let tail = bytes.get(from..).unwrap_or_default();
        let marker = tail.windows(MARKER.len()).rposition(|window| window == MARKER).ok_or(InvalidFile::NoMetadata)?;
        let end = from + marker;
        let metadata = Metadata(Data(bytes.get(end + MARKER.len()..).unwrap_or_default()));
        metadata.number("binary_format_major_version", |version| version == 2, "2")?;
        let bits = metadata.number("record_size", |bits| matches!(bits, 24 | 28 | 32), "24, 28 or 32")?;
        let has_v6 = metadata.number("ip_version", |version| matches!(version, 4 | 6), "4 or 6")? == 6;
        let nodes = metadata.number("node_count", |nodes| (1..1 << 32).contains(&nodes), "1 to 4294967295")? as u32;
        let built = metadata.number("build_epoch", |_| true, "seconds since 1970")?;
        let kind = metadata.text("database_type")?;
        let node_bytes = bits as usize / 4;
        let tree_end = (nodes as usize).checked_mul(node_bytes).and_then(|tree| tree.checked_add(SEPARATOR));
        let cut = InvalidFile::Cut { nodes, bits, bytes: end };
        let start = tree_end.filter(|start| *start <= end).ok_or(cut)?;
        let mut tree = Self { bytes, nodes, node_bytes, has_v6, v4: 0, data: start..end, kind, built };
        tree.check()?;
        if has_v6 {
            tree.v4 = tree.descend(0, std::iter::repeat_n(false, 96));
        }
        Ok(tree)
    }

    /// What the file calls itself, as `GeoLite2-Country`.
    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    /// When it was made, seconds since 1970.
    pub(super) fn built(&self) -> u64 {
        self.built
    }

    pub(super) fn data(&self) -> Data<'_> {
        Data(self.bytes.get(self.data.clone()).unwrap_or_default())
    }

    /// Where the data of an address are, if there are any.
    pub(super) fn find(&self, address: IpAddr) -> Option<usize> {
        let record = match address {
            IpAddr::V4(v4) => {
                let number = u32::from(v4);
                self.descend(self.v4, (0..32).rev().map(|bit| number >> bit & 1 == 1))
            }
            IpAddr::V6(v6) if self.has_v6 => {
                let number = u128::from(v6);
                self.descend(0, (0..128).rev().map(|bit| number >> bit & 1 == 1))
            }
            IpAddr::V6(_) => return None,
        };
        self.place(record)
    }

    /// Where data are, in the order of the tree: some of them many times.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> + '_ {
        let records = (0..self.nodes).flat_map(|node| [self.record(node, false), self.record(node, true)]);
        records.filter_map(|record| self.place(record))
    }

    fn place(&self, record: u32) -> Option<usize> {
        (record as usize).checked_sub(self.nodes as usize + SEPARATOR)
    }

    /// The record to which these bits lead; that of a node, if they lead no further.
    fn descend(&self, from: u32, bits: impl Iterator<Item = bool>) -> u32 {
        let mut record = from;
        for right in bits {
            if record >= self.nodes {
                break;
            }
            record = self.record(record, right);
        }
        record
    }

    /// What a node leads to on one side. Which side that is nobody can foresee: it must not be branched on.
    fn record(&self, node: u32, right: bool) -> u32 {
        let (at, side) = (node as usize * self.node_bytes, usize::from(right));
        let number = match self.node_bytes {
            6 => self.four(at + 2 * side).map(|bytes| (bytes >> (8 * (1 - side))) & 0x00ff_ffff),
            8 => self.four(at + 4 * side),
            // The byte between both holds the upper four bits of each.
            _ => self.four(at + 3 * side).map(|bytes| {
                let left = bytes >> 8 | (bytes & 0xf0) << 20;
                [left, bytes & 0x0fff_ffff][side]
            }),
        };
        // There is no such node: to nothing.
        number.unwrap_or(self.nodes)
    }

    fn four(&self, at: usize) -> Option<u32> {
        self.bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// Every record leads somewhere.
    fn check(&self) -> Result<(), InvalidFile> {
        let data = self.data.len();
        for node in 0..self.nodes {
            for right in [false, true] {
                let record = self.record(node, right);
                let leads = record <= self.nodes || self.place(record).is_some_and(|place| place < data);
                if !leads {
                    return Err(InvalidFile::Astray { node, record });
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("kind", &self.kind).field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// The metadata, which are a section of their own.
struct Metadata<'a>(Data<'a>);

impl<'a> Metadata<'a> {
    fn value(&self, field: &str) -> Result<Option<Value<'a>>, InvalidFile> {
        let at = self.0.get(0, field)?;
        Ok(at.map(|at| self.0.value(at)).transpose()?)
    }

    fn number(&self, field: &'static str, fits: fn(u64) -> bool, expected: &'static str) -> Result<u64, InvalidFile> {
        match self.value(field)? {
            Some(Value::Unsigned(number)) if fits(number) => Ok(number),
            other => Err(InvalidFile::Metadata { field, found: shown(other), expected }),
        }
    }

    fn text(&self, field: &'static str) -> Result<String, InvalidFile> {
        match self.value(field)? {
            Some(Value::Text(text)) if text.len() <= 250 => Ok(text.escape_debug().to_string()),
            other => Err(InvalidFile::Metadata { field, found: shown(other), expected: "a text" }),
        }
    }
}

fn shown(value: Option<Value<'_>>) -> String {
    match value {
        None => "nothing".into(),
        Some(Value::Unsigned(number)) => number.to_string(),
        Some(Value::Text(text)) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Some(Value::Map(_) | Value::Other) => "a value of another type".into(),
    }
}
