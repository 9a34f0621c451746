//! A collector of a few lines: a spool in memory, one stream, and the rules of the delivery protocol.

use std::collections::BTreeMap;

use spikewatch_domain::{
    key::Subject,
    shard::shard_of,
    window::{Counters, Window},
};
use spikewatch_proto::{
    convert::windows,
    v1::{self, aggregator_message, collector_message::Message, ingest_client::IngestClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::detector::{RowKey, SHAPE};

/// One batch in the spool: its bucket, and (host, events) of its rows.
type Batch = (u64, Vec<(u8, u64)>);

/// Shard, number, the one sent before, and the batch.
type Numbered = (u32, u64, u64, Batch);

pub(crate) struct Collector {
    pub(crate) site: String,
    pub(crate) incarnation: u8,
    /// A live collector's clock when it says hello; none if it plays recorded traffic.
    pub(crate) clock_ms: Option<u64>,
    pub(crate) back_fill: bool,
    /// The incarnation whose traffic it doesn't carry on, which drains beside it.
    pub(crate) draining: Option<u8>,
    /// Per shard, by sequence number; trimmed ones are gone.
    pub(crate) spool: BTreeMap<u32, BTreeMap<u64, Batch>>,
    next: BTreeMap<u32, u64>,
    /// What was ever put into the spool.
    pub(crate) sums: BTreeMap<RowKey, u64>,
    link: Option<Link>,
    pub(crate) credit: u64,
    pub(crate) welcomes: usize,
}

struct Link {
    out: mpsc::Sender<v1::CollectorMessage>,
    answers: Streaming<v1::AggregatorMessage>,
    /// Epoch and last number sent, of bound shards.
    bound: BTreeMap<u32, (v1::Epoch, u64)>,
}

impl Collector {
    pub(crate) fn new(site: &str, incarnation: u8) -> Self {
        Self {
            site: site.into(),
            incarnation,
            clock_ms: None,
            back_fill: false,
            draining: None,
            spool: BTreeMap::new(),
            next: BTreeMap::new(),
            sums: BTreeMap::new(),
            link: None,
            credit: 0,
            welcomes: 0,
        }
    }

    pub(crate) fn put(&mut self, shard: u32, bucket: u64, rows: &[(u8, u64)]) {
        let seq = self.next.entry(shard).or_default();
        *seq += 1;
        self.spool.entry(shard).or_default().insert(*seq, (bucket, rows.to_vec()));
        for (host, events) in rows {
            *self.sums.entry((bucket, self.site.clone(), subject(*host))).or_default() += events;
        }
    }

    pub(crate) fn hello(&self) -> v1::Hello {
        v1::Hello {
            site: self.site.clone(),
            collector: "c1".into(),
            incarnation: vec![self.incarnation; 16],
            shape: Some(SHAPE().into()),
            clock_ms: self.clock_ms.unwrap_or_default(),
            event_time: self.clock_ms.is_none(),
            back_fill: self.back_fill,
            draining: self.draining.iter().map(|id| vec![*id; 16]).collect(),
        }
    }

    pub(crate) async fn connect(&mut self, address: &str) {
        let (out, messages) = mpsc::channel(64);
        let hello = Message::Hello(self.hello());
        out.send(v1::CollectorMessage { message: Some(hello) }).await.unwrap();
        let mut client = IngestClient::connect(address.to_owned()).await.unwrap();
        let answers = client.stream(ReceiverStream::new(messages)).await.unwrap().into_inner();
        self.link = Some(Link { out, answers, bound: BTreeMap::new() });
        self.credit = 0;
        let welcomes = self.welcomes;
        while self.welcomes == welcomes {
            self.hear().await.unwrap();
        }
    }

    pub(crate) fn disconnect(&mut self) {
        self.link = None;
    }

    /// Takes what answers there are by now.
    pub(crate) async fn listen(&mut self) {
        let moment = std::time::Duration::from_millis(1);
        while let Ok(heard) = tokio::time::timeout(moment, self.hear()).await {
            heard.unwrap();
        }
    }

    /// Takes one answer.
    pub(crate) async fn hear(&mut self) -> Result<(), Status> {
        let answer = self.link.as_mut().unwrap().answers.message().await?;
        let answer = answer.ok_or_else(|| Status::cancelled("the stream ended"))?;
        match answer.message.unwrap() {
            aggregator_message::Message::Welcome(welcome) => self.welcomed(welcome).await,
            aggregator_message::Message::Credit(credit) => self.credit += credit.rows,
            aggregator_message::Message::Receipt(_) => {}
            aggregator_message::Message::Trim(trim) => {
                for ((shard, bucket), seq) in trim.shard.iter().zip(&trim.bucket_start_ms).zip(&trim.seq) {
                    self.trim(*shard, *bucket, *seq);
                }
            }
            aggregator_message::Message::Unbound(unbound) => {
                let link = self.link.as_mut().unwrap();
                unbound.shard.iter().for_each(|shard| drop(link.bound.remove(shard)));
            }
        }
        Ok(())
    }

    async fn welcomed(&mut self, welcome: v1::Welcome) {
        self.welcomes += 1;
        let mut bind = v1::Bind::default();
        for (index, shard) in welcome.shard.iter().enumerate() {
            self.trim(*shard, welcome.bucket_start_ms[index], welcome.seq[index]);
            let next = self.next.get(shard).copied().unwrap_or(0) + 1;
            let lowest = self.spool.get(shard).and_then(|spool| spool.keys().next().copied()).unwrap_or(next);
            bind.shard.push(*shard);
            bind.epoch.push(welcome.epoch[index].clone());
            bind.lowest_seq.push(lowest);
            bind.trimmed_seq.push(lowest - 1);
            let link = self.link.as_mut().unwrap();
            link.bound.insert(*shard, (welcome.epoch[index].clone(), 0));
        }
        self.say(Message::Bind(bind)).await;
    }

    fn trim(&mut self, shard: u32, bucket: u64, seq: u64) {
        let spool = self.spool.entry(shard).or_default();
        spool.retain(|number, (of, _)| *of > bucket || *number > seq);
    }

    pub(crate) async fn say(&mut self, message: Message) {
        let link = self.link.as_mut().unwrap();
        let _ = link.out.send(v1::CollectorMessage { message: Some(message) }).await;
    }

    /// Sends what was not sent on this stream, at most so many batches a shard; in slices of one bucket.
    pub(crate) async fn send(&mut self, most: usize) {
        let mut slices: BTreeMap<(u64, u64), Vec<Numbered>> = BTreeMap::new();
        for (shard, spool) in &self.spool {
            let Some((_, sent)) = self.link.as_mut().unwrap().bound.get_mut(shard) else { continue };
            for (number, batch) in spool.range(*sent + 1..).take(most) {
                slices.entry((*number, batch.0)).or_default().push((*shard, *number, *sent, batch.clone()));
                *sent = *number;
            }
        }
        for ((_, bucket), batches) in slices {
            let mut slice = v1::SliceBatches {
                slice_start_ms: bucket + 10_000,
                traceparent: format!("00-{:032x}-{:016x}-01", bucket, 7),
                windows: Some(v1::Windows::default()),
                ..v1::SliceBatches::default()
            };
            for (shard, seq, prev, (_, rows)) in batches {
                slice.shard.push(shard);
                slice.seq.push(seq);
                slice.prev.push(prev);
                slice.rows.push(rows.len() as u32);
                for (host, events) in rows {
                    let counters = Counters { events, ..Counters::default() };
                    let window = Window { counters, ..Window::default() };
                    windows::push(slice.windows.as_mut().unwrap(), None, &subject(host), &window, false);
                }
            }
            self.say(Message::Batches(slice)).await;
        }
    }

    pub(crate) async fn watermark(&mut self, time_ms: u64, last: bool) {
        let link = self.link.as_ref().unwrap();
        let (shard, seq) =
            link.bound.iter().filter(|(_, (_, sent))| *sent > 0).map(|(shard, (_, sent))| (*shard, *sent)).unzip();
        self.say(Message::Watermark(v1::Watermark { time_ms, shard, seq, last, except: Vec::new() })).await;
    }

    /// Sends all that is left and the last watermark, again after each new binding, until everything is trimmed.
    pub(crate) async fn finish(&mut self, end_ms: u64) {
        let mut welcomes = 0;
        while self.spool.values().any(|spool| !spool.is_empty()) {
            if welcomes != self.welcomes {
                welcomes = self.welcomes;
                self.send(usize::MAX).await;
                self.watermark(end_ms, true).await;
            }
            let heard = tokio::time::timeout(std::time::Duration::from_secs(20), self.hear()).await;
            heard.expect("nothing is trimmed any more").unwrap();
        }
    }
}

/// Two hosts of the site that belong to the shard.
pub(crate) fn hosts(site: &str, shard: u32) -> [u8; 2] {
    let site = site.parse().unwrap();
    let mut hosts = (0..=u8::MAX).filter(|host| shard_of(&site, &subject(*host), SHAPE().shards) == shard);
    [hosts.next().unwrap(), hosts.next().unwrap()]
}

pub(crate) fn subject(host: u8) -> Subject {
    Subject::Address(std::net::Ipv4Addr::new(10, 0, 0, host).into())
}
