use super::*;

fn job(measure: &str, function: &str, split: &str) -> String {
    format!("[[job]]\nid = \"j\"\nmeasure = \"{measure}\"\nfunction = \"{function}\"\nsplit = \"{split}\"\n")
}

fn error(text: &str) -> String {
    Job::from_toml(text).unwrap_err().to_string()
}

#[test]
fn jobs_come_from_toml() {
    let jobs = Job::from_toml(
        "[[job]]\nid = \"denied_by_host\"\nmeasure = \"denied\"\nfunction = \"high_count\"\nsplit = \"host\"\n",
    )
    .unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(
        (jobs[0].measure, jobs[0].split, jobs[0].model),
        (Measure::Denied, Split::By(Dimension::Host), Model::Compact)
    );
    let rich = format!("{}model = \"rich\"\n", job("bytes_out", "low_mean", "host"));
    let rich = Job::from_toml(&rich).unwrap().remove(0);
    assert_eq!((rich.function, rich.model), (Function::Of(Aggregate::Mean, Side::Low), Model::Rich));
    assert_eq!(Job::from_toml(&job("events", "count", "site")).unwrap()[0].model, Model::Rich);
}

#[test]
fn every_function_goes_with_the_measures_that_it_says_something_of() {
    let measures = |function: &str| -> Vec<&str> {
        let fits = |measure: &Measure| Job::from_toml(&job(measure.name(), function, "host")).is_ok();
        Measure::ALL.into_iter().filter(fits).map(Measure::name).collect()
    };
    let sizes = ["bytes_out", "bytes_in", "packets_out", "packets_in"];
    for side in ["", "low_", "high_"] {
        let of = |function: &str| measures(&format!("{side}{function}"));
        assert_eq!((of("count"), of("non_zero_count")), (vec!["events", "denied"], vec!["events", "denied"]));
        assert_eq!((of("sum"), of("mean")), (sizes.to_vec(), sizes.to_vec()));
        assert_eq!(of("distinct_count"), ["distinct_peers", "distinct_peer_ports"]);
        assert_eq!((of("min"), of("max")), (vec![], vec![]), "no function pretends");
    }
    assert_eq!(measures("rare"), ["events"]);
    assert!(error(&job("events", "rare", "global")).contains("split \"global\" must be country, asn, port or host"));
}

#[test]
fn what_does_not_fit_is_named() {
    assert!(error(&job("flows", "high_count", "host")).contains("measure \"flows\" must be events"));
    assert!(error(&job("events", "high_sum", "host")).contains("function \"high_sum\" must be"));
    assert!(error(&job("bytes_out", "max", "host")).contains("not the least or greatest of them"));
    assert!(error(&job("events", "median", "host")).contains("\"median\" is no function; expected one of mean"));
    assert!(error(&job("events", "high_count", "user")).contains("split \"user\" must be global"));
    let blind = error(&job("distinct_peers", "high_distinct_count", "port"));
    assert!(blind.contains("split \"port\" must be global, host or site"), "{blind}");
    assert!(error("[[job]]\nid = \"j\"\nsize = 3\n").contains("size"));
    let unseen = error(&job("events", "low_count", "port"));
    assert!(unseen.contains("function \"low_count\" must be a high_ function, or non_zero_count"), "{unseen}");
    assert!(Job::from_toml(&job("events", "low_non_zero_count", "port")).is_ok());
    let model = |function: &str| format!("{}model = \"fine\"\n", job("events", function, "host"));
    assert!(error(&model("count")).contains("model \"fine\" must be compact or rich"));
    assert!(error(&model("activity")).contains("must be left out"));
    let twice = job("events", "high_count", "host").repeat(2);
    assert!(error(&twice).contains("there twice"));
}

#[test]
fn buckets_consist_of_base_buckets() {
    let span = |function: &str, span: &str| {
        Job::from_toml(&format!("{}bucket_span = \"{span}\"\n", job("events", function, "host")))
    };
    let hour = span("count", "1h").unwrap();
    assert_eq!(hour[0].bucket_span.map(Span::seconds), Some(3600));
    let base = |seconds| Span::from_seconds(seconds).unwrap();
    assert_eq!(Job::check_spans(&hour, base(900)), Ok(()));
    let fault = Job::check_spans(&hour, base(25 * 60)).unwrap_err().to_string();
    assert_eq!(fault, "job \"j\": bucket_span 1h must be a multiple of the base bucket, 25m");
    assert!(span("count", "2d").unwrap_err().to_string().contains("bucket_span \"2d\" must be 1s to 1d"));
    assert!(
        span("count", "long").is_err() && span("activity", "1h").unwrap_err().to_string().contains("must be left out")
    );
}

#[test]
fn custom_rules_are_read_with_their_job() {
    let rules = "[[job.rules]]\nactions = [\"skip_model_update\"]\nscope = { include = [\"10.0.0.0/8\"] }\n";
    assert_eq!(Job::from_toml(&format!("{}{rules}", job("events", "count", "host"))).unwrap()[0].rules.len(), 1);
    assert!(error(&format!("{}{rules}", job("events", "activity", "host"))).contains("none of a joint job"));
    assert!(
        error(&format!("{}[[job.rules]]\n", job("events", "count", "host")))
            .contains("must have conditions or a scope")
    );
}

#[test]
fn own_jobs_come_beside_the_built_in_ones_or_in_their_place() {
    let own = Job::from_toml(&job("events", "count", "host").replace("\"j\"", "\"host_activity\"")).unwrap();
    let jobs = Job::with_built_in(own);
    assert_eq!(jobs.len(), Job::built_in().len());
    assert_eq!(jobs.iter().filter(|job| job.id == "host_activity").count(), 1);
    assert_eq!(jobs.last().map(|job| job.function.name()), Some("count"));
}

#[test]
fn reserved_hosts_have_no_series() {
    let hosts = Split::By(Dimension::Host);
    assert!(hosts.takes(&Subject::Name("web-1".into())));
    assert!(!hosts.takes(&Subject::Transit) && !hosts.takes(&Subject::Overflow) && !hosts.takes(&Subject::Site));
    assert!(!hosts.takes(&Subject::Other(Dimension::Host)));
    assert!(Split::By(Dimension::Site).takes(&Subject::Site));
    assert!(!hosts.takes(&Subject::Port(53)));
    let ports = Split::By(Dimension::Port);
    assert!(ports.takes(&Subject::Port(53)) && !ports.takes(&Subject::Other(Dimension::Port)));
}
