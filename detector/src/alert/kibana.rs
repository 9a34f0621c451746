//! The alert in the form of Kibana's detection alerts, for whoever has dashboards, playbooks or a SIEM that read it: the ECS
//! document with `kibana.alert.*` in flat keys, and the anomaly record's numbers under the names of machine learning
//! results. It is made of the document alone, so it needs neither the rule nor the record.

use serde_json::{Map, Value, json};

/// The document of an alert in that form, as one line of JSON with its keys in alphabetical order. What is no document of
/// ours comes back as it is.
#[must_use]
pub fn of(document: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(document) else { return document.to_owned() };
    if !fields.contains_key("spikewatch") {
        return document.to_owned();
    }
    let ours = Value::Object(fields.clone());
    let at = |pointer: &str| ours.pointer(pointer).cloned().unwrap_or(Value::Null);
    // `signal` is reserved for what Kibana's own rules make; this is what their readers look for.
    if let Some(Value::Object(event)) = fields.get_mut("event") {
        event.insert("kind".into(), "signal".into());
    }
    fields.insert("@timestamp".into(), at("/event/created"));
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    };
    alert(&at, &mut put);
    rule(&at, &mut put);
    anomaly(&at, &mut put);
    Value::Object(fields).to_string()
}

fn alert(at: &impl Fn(&str) -> Value, put: &mut impl FnMut(&str, Value)) {
    let ended = at("/spikewatch/incident/status") == "ended";
    let seconds = at("/spikewatch/incident/duration_s").as_u64().unwrap_or(0);
    let record = json!({ "id": at("/event/id"), "type": "event", "index": "", "depth": 0 });
    put("kibana.alert.uuid", at("/event/id"));
    put("kibana.alert.instance.id", at("/spikewatch/incident/id"));
    put("kibana.alert.status", if ended { "recovered" } else { "active" }.into());
    put("kibana.alert.workflow_status", "open".into());
    put("kibana.alert.workflow_tags", json!([]));
    put("kibana.alert.workflow_assignee_ids", json!([]));
    put("kibana.alert.severity", at("/spikewatch/rule/severity"));
    put("kibana.alert.risk_score", at("/event/risk_score"));
    put("kibana.alert.reason", at("/event/reason"));
    put("kibana.alert.original_time", at("/spikewatch/bucket_start"));
    put("kibana.alert.ancestors", json!([record]));
    put("kibana.alert.depth", 1.into());
    put("kibana.alert.start", at("/spikewatch/incident/start"));
    put("kibana.alert.duration.us", seconds.saturating_mul(1_000_000).into());
    put("kibana.alert.end", if ended { at("/spikewatch/incident/last") } else { Value::Null });
    put("kibana.alert.last_detected", at("/spikewatch/updated"));
    put("kibana.alert.intended_timestamp", at("/event/created"));
    put("kibana.space_ids", json!(["default"]));
    if at("/spikewatch/suppression").is_object() {
        let terms = at("/spikewatch/suppression/terms");
        let term = |term: &Value| json!({ "field": term["field"], "value": term["values"] });
        let terms: Vec<Value> = terms.as_array().into_iter().flatten().map(term).collect();
        put("kibana.alert.suppression.terms", terms.into());
        put("kibana.alert.suppression.start", at("/spikewatch/suppression/start"));
        put("kibana.alert.suppression.end", at("/spikewatch/suppression/end"));
        put("kibana.alert.suppression.docs_count", at("/spikewatch/suppression/count"));
    }
}

fn rule(at: &impl Fn(&str) -> Value, put: &mut impl FnMut(&str, Value)) {
    let seconds = |pointer: &str, before: &str| json!(format!("{before}{}s", at(pointer)));
    let version: u64 = at("/rule/version").as_str().and_then(|version| version.parse().ok()).unwrap_or(1);
    let fields = [
        ("uuid", at("/rule/id")),
        ("rule_id", at("/rule/id")),
        ("name", at("/rule/name")),
        ("description", at("/rule/description")),
        ("version", version.into()),
        ("type", "machine_learning".into()),
        ("category", "Machine Learning Rule".into()),
        ("rule_type_id", "siem.mlRule".into()),
        ("consumer", "siem".into()),
        ("producer", "siem".into()),
        ("enabled", true.into()),
        ("severity", at("/spikewatch/rule/severity")),
        ("risk_score", at("/event/risk_score")),
        ("from", seconds("/spikewatch/rule/look_back_s", "now-")),
        ("to", "now".into()),
        ("interval", seconds("/spikewatch/rule/interval_s", "")),
        ("max_signals", at("/spikewatch/rule/max_signals")),
        ("tags", or_none(at("/tags"))),
        ("threat", or_none(at("/spikewatch/rule/threat"))),
        ("false_positives", or_none(at("/spikewatch/false_positives"))),
        ("note", at("/spikewatch/guide")),
        ("references", json!([])),
        ("actions", json!([])),
        ("exceptions_list", json!([])),
        ("execution.type", at("/spikewatch/execution_type")),
        ("execution.timestamp", at("/spikewatch/updated")),
    ];
    for (name, value) in fields {
        put(&format!("kibana.alert.rule.{name}"), value);
    }
    let parameters = json!({
        "anomaly_threshold": at("/spikewatch/rule/threshold"),
        "machine_learning_job_id": at("/spikewatch/rule/jobs"),
        "max_signals": at("/spikewatch/rule/max_signals"),
        "severity": at("/spikewatch/rule/severity"),
        "risk_score": at("/event/risk_score"),
    });
    put("kibana.alert.rule.parameters", parameters);
}

fn or_none(list: Value) -> Value {
    if list.is_null() { json!([]) } else { list }
}

/// The anomaly record under the names of machine learning results.
fn anomaly(at: &impl Fn(&str) -> Value, put: &mut impl FnMut(&str, Value)) {
    put("result_type", "record".into());
    put("job_id", at("/spikewatch/job"));
    put("detector_index", 0.into());
    put("is_interim", false.into());
    put("timestamp", at("/spikewatch/bucket_start"));
    put("bucket_span", at("/spikewatch/bucket_span_s"));
    put("function", at("/spikewatch/function"));
    put("function_description", at("/spikewatch/function"));
    for name in ["probability", "record_score", "initial_record_score", "multi_bucket_impact"] {
        put(name, at(&format!("/spikewatch/{name}")));
    }
    put("actual", json!([at("/spikewatch/actual")]));
    put("typical", json!([at("/spikewatch/typical")]));
    if at("/spikewatch/dimension") != "global" {
        put("by_field_name", at("/spikewatch/dimension"));
        put("by_field_value", at("/spikewatch/value"));
    }
    put("influencers", influencers(&at("/spikewatch/contributors")));
    let explanation = json!({
        "lower_confidence_bound": at("/spikewatch/lower"),
        "upper_confidence_bound": at("/spikewatch/upper"),
        "typical_value": at("/spikewatch/typical"),
        "incomplete_bucket_penalty": at("/spikewatch/incomplete"),
        "anomaly_length": at("/spikewatch/incident/buckets"),
    });
    put("anomaly_score_explanation", explanation);
}

/// Contributors by field, each field once.
fn influencers(contributors: &Value) -> Value {
    let mut by_field: Map<String, Value> = Map::new();
    for one in contributors.as_array().into_iter().flatten() {
        let (Some(field), value) = (one["field"].as_str(), one["value"].clone()) else { continue };
        if let Value::Array(values) = by_field.entry(field).or_insert_with(|| json!([])) {
            values.push(value);
        }
    }
    let influencer =
        |(field, values)| json!({ "influencer_field_name": field, "influencer_field_values": Value::clone(values) });
    by_field.iter().map(influencer).collect::<Vec<_>>().into()
}
