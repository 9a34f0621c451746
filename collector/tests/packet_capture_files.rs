//! Capture files: formats, byte orders, units of time, and what is said of files that are broken.

use std::io::{self, Read};

use proptest::prelude::*;
use spikewatch_collector::packet::capture::{CaptureError, CaptureReader};

/// A packet as read: time, link, original length, data, offset.
type Seen = (u64, u16, u32, Vec<u8>, u64);

/// Gives few bytes at a time, as pipes do.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(buffer.len()).min(self.0.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

fn read_by(reader: impl Read) -> (Vec<Seen>, Option<CaptureError>) {
    let mut seen = Vec::new();
    let mut reader = match CaptureReader::open(reader) {
        Ok(reader) => reader,
        Err(error) => return (seen, Some(error)),
    };
    loop {
        match reader.next() {
            Ok(Some(packet)) => {
                seen.push((packet.time_ms, packet.link, packet.original_length, packet.data.to_vec(), packet.offset))
            }
            Ok(None) => return (seen, None),
            Err(error) => {
                assert!(matches!(reader.next(), Ok(None)), "one error is the end");
                return (seen, Some(error));
            }
        }
    }
}

fn read(file: &[u8]) -> (Vec<Seen>, Option<CaptureError>) {
    read_by(file)
}

fn error_of(file: &[u8]) -> String {
    read(file).1.expect("an error").to_string()
}

fn words(big: bool, words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| if big { word.to_be_bytes() } else { word.to_le_bytes() }).collect()
}

fn pcap(big: bool, magic: u32, records: &[&[u8]]) -> Vec<u8> {
    let version = if big { 0x0002_0004 } else { 0x0004_0002 };
    [words(big, &[magic, version, 0, 0, 65_535, 1]), records.concat()].concat()
}

fn block(big: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let length = words(big, &[padded as u32 + 12]);
    [words(big, &[kind]), length.clone(), body.to_vec(), vec![0; padded - body.len()], length].concat()
}

fn section(big: bool) -> Vec<u8> {
    let version = if big { 0x0001_0000 } else { 0x0000_0001 };
    block(big, 0x0a0d_0d0a, &words(big, &[0x1a2b_3c4d, version, u32::MAX, u32::MAX]))
}

fn interface(big: bool, link: u16, snap: u32, options: &[u8]) -> Vec<u8> {
    let link = if big { u32::from(link) << 16 } else { link.into() };
    block(big, 1, &[words(big, &[link, snap]), options.to_vec()].concat())
}

fn packet(big: bool, interface: u32, ticks: u64, original: u32, data: &[u8]) -> Vec<u8> {
    let head = [interface, (ticks >> 32) as u32, ticks as u32, data.len() as u32, original];
    block(big, 6, &[words(big, &head), data.to_vec()].concat())
}

#[test]
fn pcap_in_every_byte_order_and_unit() {
    for big in [false, true] {
        for (magic, fraction, extra) in
            [(0xa1b2_c3d4, 500_999, 0), (0xa1b2_3c4d, 500_999_999, 0), (0xa1b2_cd34, 500_000, 8)]
        {
            let record = [words(big, &[10, fraction, 3, 60]), vec![0; extra], b"abc".to_vec()].concat();
            let (seen, error) = read(&pcap(big, magic, &[&record, &record]));
            let offset = 24 + record.len() as u64;
            let packet = |offset| (10_500, 1, 60, b"abc".to_vec(), offset);
            assert_eq!((seen, error.is_none()), (vec![packet(24), packet(offset)], true), "{magic:x} {big}");
        }
    }
}

#[test]
fn pcapng_with_sections_interfaces_and_units_of_its_own() {
    let options = |code: u32, value: &[u8], big: bool| {
        let head = if big { code << 16 | value.len() as u32 } else { (value.len() as u32) << 16 | code };
        [words(big, &[head]), value.to_vec(), vec![0; value.len().next_multiple_of(4) - value.len()]].concat()
    };
    for big in [false, true] {
        let hour = if big { 3600i64.to_be_bytes() } else { 3600i64.to_le_bytes() };
        let file = [
            section(!big),
            interface(!big, 1, 0, &[]),
            section(big),
            block(big, 0x0000_0bad, &[7; 300]),
            interface(big, 101, 0, &[]),
            interface(big, 113, 4, &options(9, &[9], big)),
            interface(big, 276, 0, &[options(9, &[0x80 | 10], big), options(14, &hour, big)].concat()),
            packet(big, 0, 1_500_000, 60, b"abcde"),
            packet(big, 1, 2_000_000_000, 60, b""),
            packet(big, 2, 3 * 1024 + 512, 4, b"abcd"),
            // A simple packet block, and the obsolete packet block of interface 1.
            block(big, 3, &[words(big, &[5]), b"abcde".to_vec()].concat()),
            block(big, 2, &[words(big, &[if big { 1 << 16 } else { 1 }, 0, 4, 1, 1]), b"x".to_vec()].concat()),
        ]
        .concat();
        let (seen, error) = read(&file);
        assert!(error.is_none(), "{error:?}");
        let seen: Vec<_> =
            seen.into_iter().map(|(time, link, original, data, _)| (time, link, original, data)).collect();
        assert_eq!(
            seen,
            [
                (1500, 101, 60, b"abcde".to_vec()),
                (2000, 113, 60, vec![]),
                (3_603_500, 276, 4, b"abcd".to_vec()),
                (3_603_500, 101, 5, b"abcde".to_vec()),
                (0, 113, 1, b"x".to_vec()),
            ]
        );
    }
}

#[test]
fn broken_files_get_one_clear_message_and_keep_what_came_before() {
    let record = [words(false, &[10, 0, 3, 60]), b"abc".to_vec()].concat();
    let good = pcap(false, 0xa1b2_c3d4, &[&record]);
    assert_eq!(
        error_of(b"{\"a\": 1}"),
        "at byte 0: expected the magic of pcap (a1b2c3d4, a1b23c4d, a1b2cd34) or pcapng (0a0d0d0a), found 7b226122"
    );
    assert!(error_of(b"").ends_with("found an empty file"));
    assert_eq!(error_of(&good[..20]), "at byte 0: the file ends within the file header: 20 of 24 bytes are there");

    let cut = [&good[..], &record[..10]].concat();
    assert_eq!(error_of(&cut), "at byte 43: the file ends within a record header: 10 of 16 bytes are there");
    let cut = [&good[..], &record[..18]].concat();
    assert_eq!(error_of(&cut), "at byte 43: the file ends within a packet's record: 18 of 19 bytes are there");
    assert_eq!(read(&cut).0.len(), 1);
    let absurd = [&good[..], &words(false, &[0, 0, u32::MAX, 0])].concat();
    assert_eq!(error_of(&absurd), "at byte 43: a record's captured length says 4294967295, expected at most 262144");

    let start = [section(false), interface(false, 1, 0, &[])].concat();
    let with = |blocks: &[u8]| error_of(&[&start[..], blocks].concat());
    assert_eq!(
        with(&packet(false, 1, 0, 0, b"")),
        "at byte 48: a packet's interface says 1, expected one that was described before"
    );
    let mut other_end = packet(false, 0, 0, 0, b"");
    let end = other_end.len() - 4;
    other_end[end] = 99;
    assert_eq!(with(&other_end), "at byte 48: the length at a block's end says 99, expected that at its begin");
    assert!(with(&packet(false, 0, 0, 0, b"abc")[..20]).contains("ends within a block: 20 of 36 bytes"));
    assert!(with(&words(false, &[6, 8, 0])).contains("a block's length says 8"));
    let mut long = packet(false, 0, 0, 0, b"abc");
    long[20] = 200;
    assert!(with(&long).contains("a packet's captured length says 200"), "{}", with(&long));
}

#[test]
fn a_reader_that_fails_is_told_with_its_place() {
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let file = pcap(false, 0xa1b2_c3d4, &[]);
            let length = (file.len() - self.0).min(buffer.len());
            buffer[..length].copy_from_slice(&file[self.0..self.0 + length]);
            self.0 += length;
            if length == 0 { Err(io::Error::other("the disk is gone")) } else { Ok(length) }
        }
    }
    let error = read_by(Failing(0)).1.unwrap();
    assert_eq!(error.to_string(), "at byte 24: can't read: the disk is gone");
}

#[test]
fn packets_around_the_window_s_edge_are_whole() {
    let long = |fill: u8| [words(false, &[1, 0, 200_000, 200_000]), vec![fill; 200_000]].concat();
    let records: Vec<_> = (0..20).map(long).collect();
    let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
    let file = pcap(false, 0xa1b2_c3d4, &records);
    for step in [7_777, usize::MAX] {
        let (seen, error) = read_by(Trickle(&file, step));
        assert!(error.is_none() && seen.len() == 20);
        assert!(seen.iter().zip(0..).all(|(packet, fill)| packet.3.iter().all(|&byte| byte == fill)));
    }
    // An unknown block far bigger than the window is passed over.
    let file = [section(false), block(false, 0xbad, &vec![0; 2_000_000]), interface(false, 1, 0, &[])].concat();
    let file = [file, packet(false, 0, 0, 3, b"abc")].concat();
    assert_eq!(read(&file).0.len(), 1);
}

proptest! {
    #[test]
    fn no_bytes_panic_or_hang(start in 0usize..3, data in prop::collection::vec(any::<u8>(), 0..300)) {
        let start = vec![vec![], pcap(false, 0xa1b2_c3d4, &[]), section(true)].swap_remove(start);
        let file = [start, data].concat();
        let (seen, _) = read(&file);
        prop_assert!(seen.len() <= file.len() / 16);
    }

    /// A valid file with some bytes changed and the end cut off; read in pieces of any size it gives the same.
    #[test]
    fn no_damage_panics_or_hangs(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
                                 cut in any::<prop::sample::Index>(), step in 1usize..50, big in any::<bool>()) {
        let mut file = [
            section(big), interface(big, 1, 0, &[9, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0]), packet(big, 0, 5, 9, b"abcde"),
            block(big, 5, &[0; 20]), block(big, 3, &words(big, &[4, 0])), section(!big), interface(!big, 1, 0, &[]),
            packet(!big, 0, 5, 9, b"abcde"),
        ].concat();
        for (place, value) in changes {
            let place = place.index(file.len());
            file[place] = value;
        }
        file.truncate(cut.index(file.len() + 1));
        let (whole, pieces) = (read(&file), read_by(Trickle(&file, step)));
        prop_assert_eq!(whole.0, pieces.0);
        prop_assert_eq!(whole.1.map(|error| error.to_string()), pieces.1.map(|error| error.to_string()));
    }
}
