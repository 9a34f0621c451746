//! Writes small MaxMind DB files (<https://maxmind.github.io/MaxMind-DB/>, version 2.0) for tests: whatever networks and
//! records a test makes up.

use std::{collections::BTreeMap, net::IpAddr};

/// Zeros between the tree and the data.
const SEPARATOR: u32 = 16;

/// A value of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number of at most so many bytes: 2, 4, 8.
    Unsigned(u64, u8),
    /// A truth value.
    Bool(bool),
    /// A number with a fraction.
    Double(f64),
    /// Values in order.
    Array(Vec<Value>),
    /// Values by name.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// Values by name.
    #[must_use]
    pub fn map<const N: usize>(values: [(&str, Self); N]) -> Self {
        Self::Map(values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A record as GeoLite2-Country has it: the code stands behind other values, some of which have the same names.
    #[must_use]
    pub fn country(code: &str) -> Self {
        let names = || Self::map([("de", Self::text("Ein Land")), ("en", Self::text("Some country"))]);
        let number = Self::Unsigned(6_255_148, 4);
        Self::map([
            ("continent", Self::map([("code", Self::text("EU")), ("geoname_id", number), ("names", names())])),
            ("location", Self::map([("latitude", Self::Double(52.5)), ("exact", Self::Bool(false))])),
            ("subdivisions", Self::Array(vec![Self::map([("iso_code", Self::text("ZZ"))])])),
            ("registered_country", Self::map([("iso_code", Self::text("QQ"))])),
            (
                "country",
                Self::map([
                    ("is_in_european_union", Self::Bool(true)),
                    ("iso_code", Self::text(code)),
                    ("names", names()),
                ]),
            ),
        ])
    }

    /// A record as GeoLite2-ASN has it.
    #[must_use]
    pub fn asn(number: u32) -> Self {
        let organization = Self::text(&format!("Network {number}"));
        let number = Self::Unsigned(number.into(), 4);
        Self::map([("autonomous_system_number", number), ("autonomous_system_organization", organization)])
    }
}

/// A file.
#[derive(Debug, Clone)]
pub struct Mmdb {
    kind: String,
    record_bits: u32,
    ip_version: u64,
    nodes: Vec<[Record; 2]>,
    records: Vec<Value>,
    build_epoch: u64,
}

#[derive(Debug, Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    Data(usize),
}

impl Mmdb {
    /// An empty one for addresses of both kinds, in records of 24, 28 or 32 bits.
    #[must_use]
    pub fn new(kind: &str, record_bits: u32) -> Self {
        let nodes = vec![[Record::Nothing; 2]];
        Self { kind: kind.into(), record_bits, ip_version: 6, nodes, records: Vec::new(), build_epoch: 1_767_225_600 }
    }

    /// For IPv4 only.
    #[must_use]
    pub fn v4_only(self) -> Self {
        Self { ip_version: 4, ..self }
    }

    /// A file like GeoLite2-Country that knows these networks.
    #[must_use]
    pub fn countries(networks: &[(&str, &str)]) -> Vec<u8> {
        let file = Self::new("GeoLite2-Country", 24);
        networks.iter().fold(file, |file, (network, code)| file.with(network, Value::country(code))).bytes()
    }

    /// A file like GeoLite2-ASN that knows these networks.
    #[must_use]
    pub fn asns(networks: &[(&str, u32)]) -> Vec<u8> {
        let file = Self::new("GeoLite2-ASN", 24);
        networks.iter().fold(file, |file, (network, number)| file.with(network, Value::asn(*number))).bytes()
    }

    /// Gives a network, as `10.0.0.0/8`, a record; what was there of it before is replaced.
    ///
    /// # Panics
    /// It is no network.
    #[must_use]
    pub fn with(mut self, network: &str, record: Value) -> Self {
        let (address, length) = network.split_once('/').unwrap();
        let length: u32 = length.parse().unwrap();
        let (bits, length) = match (address.parse().unwrap(), self.ip_version) {
            (IpAddr::V4(v4), 4) => (u128::from(u32::from(v4)) << 96, length),
            (IpAddr::V4(v4), _) => (u128::from(u32::from(v4)), length + 96),
            (IpAddr::V6(v6), _) => (u128::from(v6), length),
        };
        let data = Record::Data(self.records.len());
        self.records.push(record);
        let mut node = 0;
        for depth in 0..length {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == length {
                self.nodes[node][side] = data;
                break;
            }
            node = match self.nodes[node][side] {
                Record::Node(next) => next,
                // What was one network is cut in two.
                whole => {
                    self.nodes.push([whole; 2]);
                    self.nodes[node][side] = Record::Node(self.nodes.len() - 1);
                    self.nodes.len() - 1
                }
            };
        }
        self
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let nodes = self.nodes.len() as u32;
        let mut data = Section::default();
        let places: Vec<u32> = self.records.iter().map(|record| data.record(record)).collect();
        let number = |record: &Record| match record {
            Record::Nothing => nodes,
            Record::Node(node) => *node as u32,
            Record::Data(record) => nodes + SEPARATOR + places[*record],
        };
        let mut file = Vec::new();
        for [left, right] in &self.nodes {
            let (left, right) = (number(left), number(right));
            match self.record_bits {
                24 => [left, right].iter().for_each(|record| file.extend(&record.to_be_bytes()[1..])),
                28 => {
                    file.extend(&left.to_be_bytes()[1..]);
                    file.push((left >> 24 << 4 | right >> 24) as u8);
                    file.extend(&right.to_be_bytes()[1..]);
                }
                _ => [left, right].iter().for_each(|record| file.extend(record.to_be_bytes())),
            }
        }
        file.extend([0; SEPARATOR as usize]);
        file.extend(&data.bytes);
        file.extend(b"\xab\xcd\xefMaxMind.com");
        let mut metadata = Section::default();
        metadata.value(&Value::map([
            ("binary_format_major_version", Value::Unsigned(2, 2)),
            ("binary_format_minor_version", Value::Unsigned(0, 2)),
            ("build_epoch", Value::Unsigned(self.build_epoch, 8)),
            ("database_type", Value::text(&self.kind)),
            ("description", Value::map([("en", Value::text("Made up for a test"))])),
            ("ip_version", Value::Unsigned(self.ip_version, 2)),
            ("languages", Value::Array(vec![Value::text("en")])),
            ("node_count", Value::Unsigned(nodes.into(), 4)),
            ("record_size", Value::Unsigned(self.record_bits.into(), 2)),
        ]));
        file.extend(metadata.bytes);
        file
    }
}

/// A section of data. Equal records are there once, and text that was there before is pointed to.
#[derive(Default)]
struct Section {
    bytes: Vec<u8>,
    records: Vec<(Value, u32)>,
    texts: BTreeMap<String, u32>,
}

impl Section {
    fn record(&mut self, record: &Value) -> u32 {
        if let Some((_, place)) = self.records.iter().find(|(known, _)| known == record) {
            return *place;
        }
        let place = self.bytes.len() as u32;
        self.value(record);
        self.records.push((record.clone(), place));
        place
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Text(text) => self.text(text),
            Value::Unsigned(number, most) => {
                let bytes = number.to_be_bytes();
                let digits = &bytes[number.leading_zeros() as usize / 8..];
                let kind = match most {
                    2 => 5,
                    4 => 6,
                    _ => 9,
                };
                self.head(kind, digits.len());
                self.bytes.extend(digits);
            }
            Value::Bool(value) => self.head(14, usize::from(*value)),
            Value::Double(number) => {
                self.head(3, 8);
                self.bytes.extend(number.to_be_bytes());
            }
            Value::Array(values) => {
                self.head(11, values.len());
                values.iter().for_each(|value| self.value(value));
            }
            Value::Map(values) => {
                self.head(7, values.len());
                for (name, value) in values {
                    self.text(name);
                    self.value(value);
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(place) = self.texts.get(text).copied() {
            return self.pointer(place);
        }
        self.texts.insert(text.to_owned(), self.bytes.len() as u32);
        self.head(2, text.len());
        self.bytes.extend(text.as_bytes());
    }

    fn pointer(&mut self, place: u32) {
        match place {
            0..2_048 => self.bytes.extend([1 << 5 | (place >> 8) as u8, place as u8]),
            2_048..526_336 => {
                let rest = (place - 2_048).to_be_bytes();
                self.bytes.extend([1 << 5 | 1 << 3 | rest[1], rest[2], rest[3]]);
            }
            526_336..134_744_064 => {
                let rest = (place - 526_336).to_be_bytes();
                self.bytes.extend([1 << 5 | 2 << 3 | rest[0], rest[1], rest[2], rest[3]]);
            }
            _ => {
                self.bytes.push(1 << 5 | 3 << 3);
                self.bytes.extend(place.to_be_bytes());
            }
        }
    }

    fn head(&mut self, kind: u8, size: usize) {
        let (low, more) = match size {
            0..29 => (size, Vec::new()),
            29..285 => (29, vec![(size - 29) as u8]),
            285..65_821 => (30, ((size - 285) as u16).to_be_bytes().to_vec()),
            _ => (31, ((size - 65_821) as u32).to_be_bytes()[1..].to_vec()),
        };
        if kind < 8 {
            self.bytes.push(kind << 5 | low as u8);
        } else {
            self.bytes.extend([low as u8, kind - 7]);
        }
        self.bytes.extend(more);
    }
}
