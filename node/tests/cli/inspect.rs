//! Looking into a store: what is there, in words and as JSON, and what can't be read.

use spikewatch_detector::store::{self, Claim, CommitWrite, LogEntry, LogKind, OpenWrite, StoreOptions, Write};
use spikewatch_domain::span::Span;
use spikewatch_proto::convert::cluster::Shape;

use spikewatch_tests::postgres::PostgresServer;

use crate::program::{Running, run};

/// A store with one commit of one shard.
async fn make(path: &std::path::Path) {
    let options = StoreOptions {
        url: format!("sqlite://{}", path.display()),
        durable: false,
        shape: Shape { shards: 2, bucket: Span::QUARTER_HOUR },
        lineage: [0xab; 16],
    };
    let store = store::open(&options).await.unwrap();
    let Claim::Taken(term) = store.claim("centre", std::time::Duration::from_secs(5)).await.unwrap() else {
        panic!("somebody leads")
    };
    let bucket = 1_767_571_200_000;
    let open = OpenWrite { shard: 1, epoch: 1, owner: "middle".into(), assignment: 1 };
    let commit = CommitWrite {
        shard: 1,
        epoch: 1,
        commit_no: 1,
        bucket,
        digest: 1,
        pairs: Vec::new(),
        members: Vec::new(),
        log: vec![LogEntry { bucket, kind: LogKind::Windows, windows: 40, blob: vec![0; 1000] }],
        missing: vec![(bucket, "berlin".into(), "c1".into())],
    };
    store.apply(term, vec![Write::Open(open), Write::Commit(commit)]).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_is_shown_in_words_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    make(&path).await;
    let path = path.to_str().unwrap();
    let overview = run(&["inspect", "store", path]);
    assert_eq!((overview.code, overview.err.as_str()), (0, ""), "{}", overview.out);
    for line in [
        "made for     2 shards of 15 min buckets",
        "term         1, held by centre",
        "counted      40 windows, 0 corrections in 1 commits",
        "committed    up to none",
        "commit log   1 row, 1 000 bytes",
        "lineage      abababab since 20",
    ] {
        assert!(overview.out.contains(line), "{line:?} is not in:\n{}", overview.out);
    }
    let tables = run(&["inspect", "store", "--shards", "--buckets", "--members", "--alerts", path]).out;
    let row = |start: &str| tables.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(row("1 ")), ["1", "1", "middle", "1", "2026-01-05T00:00:00Z", "40", "0", "0"], "{tables}");
    assert_eq!(words(row("2026-")), ["2026-01-05T00:00:00Z", "40", "0", "1", "000", "25.0", "1"], "{tables}");
    assert_eq!(tables.matches("(none)").count(), 2, "{tables}");
    let json: serde_json::Value = serde_json::from_str(&run(&["inspect", "store", "--json", path]).out).unwrap();
    assert_eq!((&json["kept"]["log_bytes"], &json["shards"][1]["owner"]), (&1000.into(), &"middle".into()));
}

#[test]
fn what_is_no_store_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.db");
    let other = folder.path().join("notes.txt");
    std::fs::write(&other, "this is no database, and long enough to be looked at as one").unwrap();
    for (url, said) in [
        (missing.to_str().unwrap(), "missing.db: "),
        (other.to_str().unwrap(), "notes.txt: is none of this program's"),
        ("mysql://x/y", "expected sqlite::memory:, sqlite:///path or postgres://user@host/database"),
    ] {
        let refused = run(&["inspect", "store", url]);
        assert_eq!(refused.code, 74, "{}", refused.err);
        assert!(refused.err.contains(said) && refused.err.lines().count() == 1, "{}", refused.err);
    }
    assert!(!missing.exists(), "inspecting made it");
}

#[test]
fn a_detector_keeps_its_store_in_postgresql_if_that_is_durable() {
    let Some(server) = PostgresServer::start(&[("fsync", "off")]) else { return };
    let url = server.new_database();
    let store = format!("detector.store={url}");
    let arguments = ["detector", "--set", &store, "--set", "detector.listen=127.0.0.1:0"];
    let refused = run(&arguments);
    assert_eq!(refused.code, 74, "{}", refused.err);
    assert!(refused.err.contains("the database has fsync = off"), "{}", refused.err);
    let node = Running::start(&[&arguments[..], &["--set", "detector.durable=false"]].concat());
    node.line(&["serving"]);
    let shown = run(&["inspect", "store", &url]);
    assert!(
        shown.out.contains("PostgreSQL, schema 4") && shown.out.contains("term         1, held by"),
        "{}",
        shown.out
    );
    // Whoever reads a message must not learn the password.
    let wrong = run(&["inspect", "store", &url.replace("/test0", "/elsewhere")]);
    assert_eq!(wrong.code, 74);
    assert!(wrong.err.contains("elsewhere") && !wrong.err.contains("test%20only"), "{}", wrong.err);
}
