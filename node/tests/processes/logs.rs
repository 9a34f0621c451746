//! Logs of two sites as sensors write and rotate them, a line for each connection, and what of it has to be counted where.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    net::IpAddr,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};

use spikewatch_actors::clock::Clock;
use spikewatch_domain::{key::Subject, window::Counters};
use tempfile::TempDir;

use crate::{random::Random, traffic::BUCKET_MS};

/// Time between two writes, ms.
const TICK_MS: u64 = 100;
/// Hosts of a site. Each begins about one connection a second.
pub(crate) const HOSTS: RangeInclusive<u64> = 1..=8;
/// The host of each site that begins so many more in every tick of the spike.
pub(crate) const LOUD: u64 = 3;
const SPIKE: u64 = 60;
/// Peers of whoever is loud, more than a window lists, and of others.
const PEERS: [u64; 2] = [60, 6];

const HEADER: &str = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n\
    #fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\torig_ip_bytes\tresp_ip_bytes\torig_pkts\tresp_pkts\n";

/// Bucket, site and whom a window is about.
pub(crate) type Key = (u64, String, Subject);

/// Site 1 has Zeek, as tab-separated text; site 2 writes ECS documents.
pub(crate) struct Logs {
    folder: TempDir,
    random: Random,
    written: BTreeMap<Key, Counters>,
    rotated: u32,
    /// When the loud hosts are loud, ms.
    pub(crate) spike: Range<u64>,
}

impl Logs {
    pub(crate) fn new(seed: u64) -> Self {
        let (folder, random) = (tempfile::tempdir().unwrap(), Random::new(seed));
        Self { folder, random, written: BTreeMap::new(), rotated: 0, spike: 0..0 }
    }

    /// What was written so far: hosts and sites.
    pub(crate) fn written(&self) -> &BTreeMap<Key, Counters> {
        &self.written
    }

    /// A file with regular connections of some hosts in these buckets, each in the bucket's first second.
    pub(crate) fn recorded(
        &mut self,
        (site, name): (usize, &str),
        hosts: RangeInclusive<u64>,
        buckets: impl Iterator<Item = u64>,
    ) -> PathBuf {
        let path = self.folder.path().join(format!("{name}{site}.{}", ["log", "ndjson"][site - 1]));
        let mut lines = if site == 1 { HEADER.to_owned() } else { String::new() };
        for bucket in buckets {
            for tick in 0..BUCKET_MS / TICK_MS {
                self.regular(site, bucket + tick * 10, hosts.clone(), &mut lines);
            }
        }
        fs::write(&path, lines).unwrap();
        path
    }

    /// What leads to a site's logs, which [`Logs::write_for`] writes.
    pub(crate) fn pattern(&self, site: usize) -> PathBuf {
        self.folder.path().join(["conn*.log", "events*.ndjson"][site - 1])
    }

    /// Connections of now, in both sites.
    pub(crate) async fn write_for(&mut self, time: Duration) {
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
        for _ in 0..time.as_millis() as u64 / TICK_MS {
            ticks.tick().await;
            for site in [1, 2] {
                self.write(site);
            }
        }
    }

    /// Site 1's log gets another name, and a new one begins.
    pub(crate) fn rotate(&mut self) {
        self.rotated += 1;
        let renamed = self.folder.path().join(format!("conn.{}.log", self.rotated));
        fs::rename(self.log(1), renamed).unwrap();
    }

    fn log(&self, site: usize) -> PathBuf {
        self.folder.path().join(["conn.log", "events.ndjson"][site - 1])
    }

    fn write(&mut self, site: usize) {
        let now = Clock::system().now_ms();
        let path = self.log(site);
        let mut lines = if site == 1 && !path.exists() { HEADER.to_owned() } else { String::new() };
        self.regular(site, now, HOSTS, &mut lines);
        if self.spike.contains(&now) {
            (0..SPIKE).for_each(|_| self.connection(site, now, LOUD, PEERS[0], &mut lines));
        }
        // A buffer is written where it is full, not where a line ends.
        let (one, other) = lines.split_at(lines.len() / 2);
        append(&path, one);
        append(&path, other);
    }

    /// What these hosts of a site do in a tick.
    fn regular(&mut self, site: usize, at: u64, hosts: RangeInclusive<u64>, lines: &mut String) {
        for host in hosts {
            if self.random.below(1_000 / TICK_MS) == 0 {
                self.connection(site, at, host, PEERS[1], lines);
            }
        }
    }

    fn connection(&mut self, site: usize, at: u64, host: u64, peers: u64, lines: &mut String) {
        let mut draw = |from, limit| from + self.random.below(limit);
        let (peer, port, service) = (draw(1, peers), draw(1_024, 60_000), [53, 443][draw(0, 2) as usize]);
        let (bytes_out, bytes_in, packets_out, packets_in) =
            (draw(100, 5_000), draw(100, 5_000), draw(1, 9), draw(1, 9));
        let (host, second) = (format!("10.{site}.0.{host}"), at as f64 / 1e3);
        match site {
            1 => writeln!(
                lines,
                "{second:.3}\t{host}\t{port}\t192.0.2.{peer}\t{service}\ttcp\t{bytes_out}\t{bytes_in}\t{packets_out}\t{packets_in}"
            ),
            _ => writeln!(
                lines,
                r#"{{"@timestamp":{at},"event":{{"category":["network"],"type":["connection"]}},"network":{{"transport":"tcp"}},"source":{{"ip":"{host}","port":{port},"bytes":{bytes_out},"packets":{packets_out}}},"destination":{{"ip":"192.0.2.{peer}","port":{service},"bytes":{bytes_in},"packets":{packets_in}}}}}"#
            ),
        }
        .unwrap();
        let counted = Counters { events: 1, bytes_out, bytes_in, packets_out, packets_in, ..Counters::default() };
        for subject in [Subject::Site, Subject::Address(host.parse::<IpAddr>().unwrap())] {
            let key = (at / BUCKET_MS * BUCKET_MS, format!("site{site}"), subject);
            self.written.entry(key).or_default().add(&counted);
        }
    }
}

fn append(path: &Path, text: &str) {
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
