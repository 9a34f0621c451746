use std::path::Path;

use proptest::prelude::*;

use super::{
    check::Roles,
    layers::{Faults, Setting, load},
    *,
};

fn read(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<Config, Faults> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, file).unwrap();
    let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let flags: Vec<Setting> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
    let loaded = load(&[], Some(&path), environment, &flags, Roles::ALL);
    loaded.map_err(|Faults(faults)| {
        let prefix = format!("{}/", folder.path().display());
        Faults(faults.into_iter().map(|fault| without(&fault.to_string(), &prefix)).collect())
    })
}

fn without(fault: &str, prefix: &str) -> layers::Fault {
    let (place, problem) = fault.split_once(": ").unwrap();
    layers::Fault::new(place.replace(prefix, ""), problem)
}

fn faults(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    read(file, environment, flags).unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_is_needed() {
    let config = load(&[], None, [], &[], Roles::ALL).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.collector.site.0, collector::default_site());
    assert!(!config.node.name.is_empty());
}

#[test]
fn what_is_dumped_is_read_again() {
    let file = r#"
        [node]
        name = "edge-1"
        [telemetry]
        log = "info,spikewatch_detector=debug"
        log_format = "json"
        otlp_endpoint = "http://otel:4317"
        metrics_listen = "[::]:9464"
        [cluster]
        bucket = "1m"
        shards = 16
        [collector]
        site = "berlin"
        internal_networks = ["192.0.2.0/24", "2001:db8::/32"]
        aggregators = ["http://a:7432", "http://b:7432"]
        [collector.aliases]
        web = ["192.0.2.5", "2001:db8::5"]
        [collector.ecs]
        excluded_processes = ["backupd"]
        [[collector.sources]]
        kind = "files"
        paths = ["a.pcap"]
        format = "pcap"
        [aggregator]
        memory_limit = "512MiB"
        [detector]
        store = "sqlite::memory:"
        allowed_lateness = "90s"
        false_alerts_a_day = 20
        keep = { windows = "7d" }
    "#;
    let config = read(file, &[], &[]).unwrap();
    let dumped = toml::to_string(&config).unwrap();
    assert_eq!(read(&dumped, &[], &[]).unwrap(), config, "{dumped}");
    assert!(dumped.contains("allowed_lateness = \"90s\"") && dumped.contains("memory_limit = \"512MiB\""), "{dumped}");
}

#[test]
fn later_layers_win() {
    let file = "[collector]\nsite = \"file\"\nname = \"file\"\nslice = \"5s\"\n";
    let environment =
        [("SPIKEWATCH__COLLECTOR__SITE", "environment"), ("SPIKEWATCH__COLLECTOR__NAME", "environment"), ("HOME", "/")];
    let config = read(file, &environment, &["collector.site=flag"]).unwrap();
    let collector = config.collector;
    assert_eq!((collector.site.0.as_str(), &*collector.name), ("flag", "environment"));
    assert_eq!(collector.slice.0.to_string(), "5s");
}

#[test]
fn a_text_becomes_what_its_key_takes() {
    let environment = [
        ("SPIKEWATCH__NODE__NAME", "17"),
        ("SPIKEWATCH__CLUSTER__SHARDS", "16"),
        ("SPIKEWATCH__DETECTOR__DURABLE", "false"),
        ("SPIKEWATCH__COLLECTOR__AGGREGATORS", "http://a:1,http://b:2"),
        ("SPIKEWATCH__COLLECTOR__SOURCES", "[{kind = \"netflow\", listen = \"0.0.0.0:2055\"}]"),
        ("SPIKEWATCH__TELEMETRY__LOG", "debug"),
    ];
    let config = read("", &environment, &["collector.internal_networks=[\"192.0.2.0/24\"]"]).unwrap();
    assert_eq!((&*config.node.name, config.cluster.shards, config.detector.durable), ("17", 16, false));
    assert_eq!(config.collector.aggregators.len(), 2);
    assert_eq!(config.collector.sources.len(), 1);
    assert_eq!(config.collector.internal_networks.len(), 1);
    assert_eq!(config.telemetry.log.0.directives(), "debug");
}

#[test]
fn all_faults_are_told_with_their_places() {
    let file = "[collector]
sitte = \"x\"
site = \"a b\"
slice = \"7s\"
internal_networks = [\"10.0.0.0/8\", \"10.0.0.0/33\"]

[[collector.sources]]
kind = \"netflow\"

[[collector.sources]]
kind = \"ipfix\"
listen = \"0.0.0.0:1\"

[detector]
listen = \"localhost\"
durable = \"yes\"

[sensors]
";
    let environment = [("SPIKEWATCH__CLUSTER__SHARDS", "many"), ("SPIKEWATCH__NODE__NAMES", "x")];
    let found = faults(file, &environment, &["aggregator.memory_limit=lots"]);
    let expected = [
        "x.toml:2: collector.sitte: unknown field `sitte`, expected one of `listen`",
        "x.toml:3: collector.site: site name \"a b\" must be",
        "x.toml:5: collector.internal_networks[1]: \"10.0.0.0/33\" is no network",
        "x.toml:11: collector.sources[1].kind: unknown variant `ipfix`, expected one of `netflow`",
        "x.toml:15: detector.listen: \"localhost\" is no address to listen on: expected IP:PORT",
        "x.toml:16: detector.durable: invalid type: string \"yes\", expected a boolean",
        "x.toml:18: sensors: unknown field `sensors`, expected one of `node`",
        "SPIKEWATCH__CLUSTER__SHARDS: invalid type: string \"many\", expected u32",
        "SPIKEWATCH__NODE__NAMES: unknown field `names`",
        "--set aggregator.memory_limit: \"lots\" is no size",
        "x.toml:4: collector.slice: 7s must divide cluster.bucket (15m)",
        "x.toml:7: collector.sources[0]: has no `listen`",
    ];
    for line in expected {
        assert!(found.iter().any(|fault| fault.starts_with(line)), "{line}\n is not in\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), expected.len(), "{}", found.join("\n"));
}

#[test]
fn the_bound_on_false_alerts_is_a_number_from_0() {
    assert_eq!(read("", &[], &[]).unwrap().detector.false_alerts_a_day.to_string(), "5");
    for good in ["0", "0.5", "20"] {
        assert!(read(&format!("[detector]\nfalse_alerts_a_day = {good}\n"), &[], &[]).is_ok(), "{good}");
    }
    for bad in ["-1", "nan", "inf", "\"few\""] {
        let found = faults(&format!("[detector]\nfalse_alerts_a_day = {bad}\n"), &[], &[]);
        assert!(found.iter().any(|fault| fault.contains("x.toml:2: detector.false_alerts_a_day: ")), "{found:?}");
    }
}

#[test]
fn a_broken_file_is_told_by_line() {
    let found = faults("[node]\nname = \"x\nlog = 3\n\n[collector\n", &[], &[]);
    assert!(found.iter().any(|fault| fault.starts_with("x.toml:2: ")), "{found:?}");
    assert!(found.iter().all(|fault| !fault.contains('\n')), "{found:?}");
    let missing = load(&[], Some(Path::new("/nonexistent.toml")), [], &[], Roles::ALL).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent.toml: can't be read"), "{missing}");
}

#[test]
fn two_things_can_not_have_one_port() {
    let found = faults("[telemetry]\nmetrics_listen = \"127.0.0.1:7433\"\n", &[], &[]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("127.0.0.1:7433 is detector.listen already"), "{found:?}");
}

#[test]
fn only_the_roles_that_run_are_checked() {
    let flags = ["collector.slice=7s".parse().unwrap()];
    assert!(load(&[], None, [], &flags, Roles::ALL).is_err());
    assert!(load(&[], None, [], &flags, Roles { collector: false, ..Roles::ALL }).is_ok());
}

#[test]
fn values_are_written_as_they_are_read() {
    for text in ["500ms", "10s", "90s", "15m", "36h", "35d"] {
        assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
    }
    assert_eq!("1h30m".parse::<Period>().unwrap().to_string(), "90m");
    for text in ["", "5", "m", "5x", "-1s", "1.5h", "99999999999999999999s"] {
        assert!(text.parse::<Period>().unwrap_err().contains("expected a number and a unit"), "{text}");
    }
    for (text, bytes) in [("65536", 65_536), ("512MiB", 512 << 20), ("1GB", 1_000_000_000), ("0", 0)] {
        assert_eq!(text.parse::<Size>().unwrap().0, bytes);
    }
    assert!("1.5GiB".parse::<Size>().is_err() && "20EB".parse::<Size>().is_err());
    for text in ["http://a:1", "http://[::1]:7433", "http://a.example:80/"] {
        assert!(text.parse::<Endpoint>().is_ok(), "{text}");
    }
    for text in ["a:1", "https://a:1", "http://a", "http://:1", "http://a:0", "http://a:1/x", "http://a:99999"] {
        assert!(text.parse::<Endpoint>().is_err(), "{text}");
    }
    for text in ["warn", "INFO", "off", "info,spikewatch_detector=trace"] {
        assert!(text.parse::<LogFilter>().is_ok(), "{text}");
    }
    for text in ["loud", "info,x=loud", ""] {
        assert!(text.parse::<LogFilter>().is_err(), "{text}");
    }
}

/// Pieces that a configuration is made of, and that break one.
const PIECES: [&str; 24] = [
    "[collector]\n",
    "[detector]\n",
    "[[collector.sources]]\n",
    "[collector.aliases]\n",
    "[cluster]\n",
    "[node]\n",
    "site = \"berlin\"\n",
    "slice = \"7s\"\n",
    "bucket = 15\n",
    "bucket = \"15m\"\n",
    "shards = -1\n",
    "kind = \"files\"\n",
    "paths = [\"a\", 5]\n",
    "listen = [[], {}]\n",
    "listen = \"[::1]:0\"\n",
    "web = [\"10.0.0.5\"]\n",
    "retention = \"35d\"\n",
    "x.y.z = 1979-05-27\n",
    "\"\" = \"\"\n",
    "= ",
    "\"",
    "\u{e9}\u{0}",
    "[",
    "{ a = ",
];

proptest! {
    /// Whatever is written: it is accepted and comes back from its dump, or each fault names a place.
    #[test]
    fn any_text_is_answered(pieces in proptest::collection::vec(0..PIECES.len(), 0..24), cut in 0..40usize) {
        let mut text: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        while !text.is_char_boundary(text.len().saturating_sub(cut)) {
            text.pop();
        }
        text.truncate(text.len().saturating_sub(cut));
        match read(&text, &[], &[]) {
            Ok(config) => prop_assert_eq!(read(&toml::to_string(&config).unwrap(), &[], &[]).unwrap(), config),
            Err(Faults(faults)) => {
                prop_assert!(!faults.is_empty());
                for fault in faults {
                    let fault = fault.to_string();
                    prop_assert!(fault.starts_with("x.toml") || fault.starts_with("default"), "{}", fault);
                }
            }
        }
    }
}
