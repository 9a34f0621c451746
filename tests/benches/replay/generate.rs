//! Deterministic captures: the same bytes on every machine.

use std::{
    fs::File,
    io::{BufWriter, Result, Write},
    path::Path,
};

/// First second of the captures.
const START: u32 = 1_790_000_000;
const FLOWS: u32 = 100_000;
const HOSTS: u32 = 50_000;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }

    /// Skewed towards low numbers, about as Zipf's law.
    fn ranked(&mut self, bound: u32) -> u32 {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        (((uniform * f64::from(bound).ln()).exp() - 1.0) as u32).min(bound - 1)
    }
}

fn mixed(number: u32) -> u32 {
    let number = (number ^ number >> 16).wrapping_mul(0x7feb_352d);
    let number = (number ^ number >> 15).wrapping_mul(0x846c_a68b);
    number ^ number >> 16
}

fn inside(rank: u32) -> u32 {
    0x0a00_0000 | (mixed(rank) & 0x1_ffff)
}

fn outside(rank: u32) -> u32 {
    0x2000_0000 | (mixed(rank.wrapping_mul(7) + 1) & 0x1fff_ffff)
}

fn header(out: &mut impl Write) -> Result<()> {
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        out.write_all(&word.to_le_bytes())?;
    }
    Ok(())
}

fn frame(out: &mut impl Write, micros: u64, source: u32, destination: u32, protocol: u8, payload: &[u8]) -> Result<()> {
    let length = payload.len() as u32 + 34;
    let (seconds, micros) = (START + (micros / 1_000_000) as u32, (micros % 1_000_000) as u32);
    for word in [seconds, micros, length, length] {
        out.write_all(&word.to_le_bytes())?;
    }
    out.write_all(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0])?;
    out.write_all(&((payload.len() + 20) as u16).to_be_bytes())?;
    out.write_all(&[0, 0, 0x40, 0, 64, protocol, 0, 0])?;
    out.write_all(&source.to_be_bytes())?;
    out.write_all(&destination.to_be_bytes())?;
    out.write_all(payload)
}

/// TCP packets of 100,000 flows between 50,000 inside addresses and the world, in sizes 64, 576 and 1,500 as 7 : 4 : 1.
pub(crate) fn packets(path: &Path, count: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut random = Random(88_172_645_463_325_252);
    let flows: Vec<(u32, u32, u16)> = (0..FLOWS)
        .map(|flow| (inside(random.ranked(HOSTS)), outside(flow), 1_024 + random.below(60_000) as u16))
        .collect();
    header(&mut out)?;
    let mut payload = [0x5a; 1_466];
    for packet in 0..count {
        let (host, peer, port) = flows[random.ranked(FLOWS) as usize];
        let out_bound = random.below(2) == 0;
        let size = [30, 542, 1_466][[0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2][random.below(12) as usize]];
        let (source, destination, ports) =
            if out_bound { (host, peer, [port, 443]) } else { (peer, host, [443, port]) };
        payload[..2].copy_from_slice(&ports[0].to_be_bytes());
        payload[2..4].copy_from_slice(&ports[1].to_be_bytes());
        (payload[12], payload[13]) = (0x50, 0x18);
        frame(&mut out, packet * 10, source, destination, 6, &payload[..size])?;
    }
    out.flush()
}

/// NetFlow v5 datagrams of 30 records each in UDP, from one exporter, over so many seconds.
pub(crate) fn netflow5(path: &Path, count: u64, seconds: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut random = Random(88_172_645_463_325_252);
    header(&mut out)?;
    let datagrams = count.div_ceil(30);
    let mut payload = Vec::with_capacity(1_472);
    for datagram in 0..datagrams {
        let micros = datagram * seconds * 1_000_000 / datagrams;
        let (seconds, uptime) = (START + (micros / 1_000_000) as u32, 10_000_000 + (micros / 1_000) as u32);
        payload.clear();
        payload.extend([0x08, 0x07, 0x08, 0x07]);
        payload.extend((8 + 24 + 48 * 30_u16).to_be_bytes());
        payload.extend([0, 0, 0, 5, 0, 30]);
        payload.extend(uptime.to_be_bytes());
        payload.extend(seconds.to_be_bytes());
        payload.extend([0; 4]);
        payload.extend((datagram as u32 * 30).to_be_bytes());
        payload.extend([0; 4]);
        for _ in 0..30 {
            record(&mut payload, &mut random, uptime);
        }
        frame(&mut out, micros, 0xc612_0001, 0xc612_0002, 17, &payload)?;
    }
    out.flush()
}

fn record(out: &mut Vec<u8>, random: &mut Random, uptime: u32) {
    let (host, peer) = (inside(random.ranked(HOSTS)), outside(random.ranked(HOSTS * 4)));
    let service = [443, 443, 443, 80, 53, 22, 25, 8_080][random.below(8) as usize];
    let port = 1_024 + random.below(60_000) as u16;
    let packets = 1 + random.ranked(400);
    let bytes = packets * (60 + random.below(1_400));
    let last = uptime - random.below(2_000);
    let out_bound = random.below(2) == 0;
    let (ends, ports): ([u32; 2], [u16; 2]) =
        if out_bound { ([host, peer], [port, service]) } else { ([peer, host], [service, port]) };
    for word in [ends[0], ends[1], 0, 0x0001_0002, packets, bytes, last - random.below(15_000), last] {
        out.extend(word.to_be_bytes());
    }
    for port in ports {
        out.extend(port.to_be_bytes());
    }
    out.extend([0, 0x1b, 6, 0, 0, 0, 0, 0, 24, 16, 0, 0]);
}
