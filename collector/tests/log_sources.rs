//! What a source does before it decodes: reads through compression, and tells the format from the content.

use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::path::PathBuf;

use flate2::{Compression, write::GzEncoder};
use spikewatch_collector::compressed::open;
use spikewatch_collector::recognise::{Format, recognise};

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn read(bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(Cursor::new(bytes))?.read_to_end(&mut content)?;
    Ok(content)
}

/// Content that does not compress to nothing.
fn content() -> Vec<u8> {
    (0..200_000_u64).flat_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()).collect()
}

#[test]
fn plain_content_passes_unchanged_however_short() {
    for bytes in [b"".as_slice(), b"a", b"\x1F", b"abc", b"abcd", b"plain text\n"] {
        assert_eq!(read(bytes.to_vec()).unwrap(), bytes);
    }
}

#[test]
fn several_members_and_frames_are_one_content() {
    let whole = [content(), content()].concat();
    assert!(read([gzip(&content()), gzip(&content())].concat()).unwrap() == whole);
    assert!(read([zstd(&content()), zstd(&content())].concat()).unwrap() == whole);
    let skippable = [b"\x50\x2A\x4D\x18\x02\x00\x00\x00xx".to_vec(), zstd(&content())].concat();
    assert!(read(skippable).unwrap() == content());
}

/// A pipe that gives one byte at a time.
struct Dribble(Cursor<Vec<u8>>);

impl Read for Dribble {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end = buffer.len().min(1);
        self.0.read(&mut buffer[..end])
    }
}

#[test]
fn a_slow_pipe_is_recognised_too() {
    for bytes in [gzip(b"hello"), zstd(b"hello"), b"hello".to_vec()] {
        let mut text = String::new();
        open(BufReader::new(Dribble(Cursor::new(bytes)))).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}

#[test]
fn truncated_and_corrupt_streams_say_so_with_the_offset() {
    for (format, whole) in [("gzip", gzip(&content())), ("zstd", zstd(&content()))] {
        let cut = whole.len() / 2;
        let error = read(whole[..cut].to_vec()).map(|content| content.len()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        let said = error.to_string();
        assert!(
            said.contains(&format!("truncated {format} stream")) && said.contains(&format!("offset {cut}")),
            "{said}"
        );

        let mut corrupt = whole.clone();
        let middle = corrupt.len() / 2;
        corrupt[middle] ^= 0xFF;
        let said = read(corrupt).map(|content| content.len()).unwrap_err().to_string();
        assert!(said.contains(&format!("corrupt {format} stream at offset ")), "{said}");
    }
}

#[test]
fn what_was_read_before_the_cut_is_not_lost() {
    let text = "line\n".repeat(100_000);
    let whole = gzip(text.as_bytes());
    let mut reader = open(Cursor::new(whole[..whole.len() - 9].to_vec())).unwrap();
    let mut lines = 0;
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line) {
        lines += 1;
        line.clear();
    }
    assert!(lines > 90_000, "{lines}");
}

#[test]
fn formats_are_told_by_content() {
    for (file, format) in [
        (include_str!("../../tests/data/ecs_defend.ndjson"), Format::Ecs),
        (include_str!("../../tests/data/ecs_packetbeat.ndjson"), Format::Ecs),
        (include_str!("../../tests/data/zeek_conn.log"), Format::ZeekTsv),
        (include_str!("../../tests/data/zeek_conn.json"), Format::ZeekJson),
        ("\u{feff}\n  {\"event.category\":\"network\",\"@timestamp\":1}", Format::Ecs),
        ("{\"ts\":1,\"id.orig_h\":\"10.0.0.1\"}", Format::ZeekJson),
    ] {
        assert_eq!(recognise(file.as_bytes()), Ok(format));
    }
    assert_eq!(recognise(&[0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0]), Ok(Format::Pcap));
    assert_eq!(recognise(&[0xA1, 0xB2, 0x3C, 0x4D]), Ok(Format::Pcap));
    assert_eq!(recognise(&[0x0A, 0x0D, 0x0D, 0x0A, 0, 0, 0, 28]), Ok(Format::Pcapng));
}

#[test]
fn the_unrecognised_is_shown_beside_what_is_understood() {
    for (head, said) in [
        (b"MZ\x90\x00".as_slice(), "4d 5a 90 00 \"MZ\\x90\\x00\""),
        (b"", "empty"),
        (b"BZh91AY", "bzip2"),
        (b"[{\"@timestamp\":1}]", "JSON array"),
        (b"{\"a\":1}", "neither ECS"),
        (b"GET / HTTP/1.1", "GET /"),
    ] {
        let error = recognise(head).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("understood are pcap, pcapng"), "{error}");
    }
}

/// Every real export datagram and capture whose kind its name tells.
#[test]
fn real_files_are_recognised() {
    let root = std::env::var_os("SPIKEWATCH_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    if !root.exists() {
        println!("skipped: real captures not found at {}", root.display());
        return;
    }
    let mut wrong = Vec::new();
    let mut seen = 0;
    let mut folders =
        vec![root.join("netflow-datagrams"), root.join("telegraf-datagrams"), root.join("tcpdump-captures")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.display().to_string().to_lowercase();
            let expected = if name.ends_with(".pcap") || name.ends_with(".pcapng") {
                [Format::Pcap, Format::Pcapng].as_slice()
            } else if !(name.ends_with(".dat") || name.ends_with(".bin")) {
                continue;
            } else if name.contains("sflow") {
                &[Format::Sflow]
            } else {
                &[Format::Netflow]
            };
            seen += 1;
            let bytes = std::fs::read(&path).unwrap();
            match recognise(&bytes) {
                Ok(format) if expected.contains(&format) => {}
                other => wrong.push(format!("{name}: {} bytes, {other:?}", bytes.len())),
            }
        }
    }
    println!("{seen} files");
    assert!(seen > 500, "{seen}");
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
}
