//! Custom rules of a job: findings that it doesn't make, or values that it doesn't learn, because somebody knows
//! better.
//!
//! A rule holds for the series of its scope in buckets of which all its conditions are true. It counts for what is
//! scored from when it is configured.

use serde::Deserialize;
use spikewatch_domain::{
    key::{SiteName, Subject},
    record::EventMillis,
};

use crate::{
    calendar::Skip,
    exception::{self, matches},
};

/// Most rules of a job, conditions of a rule, and values of a scope.
const MOST: usize = 100;

/// A custom rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct CustomRule {
    skip: Skip,
    conditions: Vec<Condition>,
    scope: Scope,
}

/// A bucket of a series, as its job judged it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged<'a> {
    /// None of the global series.
    pub(crate) site: Option<&'a SiteName>,
    pub(crate) subject: &'a Subject,
    pub(crate) start: EventMillis,
    pub(crate) actual: f64,
    pub(crate) typical: f64,
}

/// What a condition looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AppliesTo {
    Actual,
    Typical,
    /// The size of the difference.
    DiffFromTypical,
    /// Start of the bucket, s.
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Operator {
    Gt,
    Gte,
    Lt,
    Lte,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "WrittenCondition")]
struct Condition {
    applies_to: AppliesTo,
    operator: Operator,
    value: f64,
}

/// Which series; all if nothing is said.
#[derive(Debug, Clone, Default, PartialEq)]
struct Scope {
    sites: Vec<SiteName>,
    include: Values,
    exclude: Values,
}

/// Split values: patterns and networks.
#[derive(Debug, Clone, Default, PartialEq)]
struct Values(Vec<String>, exception::ValueList);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "skip_result")]
    actions: Vec<Action>,
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    scope: WrittenScope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    SkipResult,
    SkipModelUpdate,
}

fn skip_result() -> Vec<Action> {
    vec![Action::SkipResult]
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenScope {
    sites: Vec<String>,
    include: Vec<String>,
    exclude: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCondition {
    applies_to: AppliesTo,
    operator: Operator,
    value: toml::Value,
}

impl TryFrom<WrittenCondition> for Condition {
    type Error = String;

    fn try_from(written: WrittenCondition) -> Result<Self, String> {
        let WrittenCondition { applies_to, operator, value } = written;
        let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
        let time = || exception::time(value.as_str()?).map(|ms| ms as f64 / 1000.0);
        let (value, expected) = match applies_to {
            AppliesTo::Time => (number.or_else(time), "a time as \"2027-01-31T18:00:00Z\", or seconds since 1970"),
            _ => (number, "a number"),
        };
        let found = value.filter(|value| value.is_finite());
        found
            .map(|value| Self { applies_to, operator, value })
            .ok_or_else(|| format!("a condition's value must be {expected}"))
    }
}

impl TryFrom<Written> for CustomRule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { actions, conditions, scope } = written;
        if actions.is_empty() {
            return Err("a rule's actions must be skip_result, skip_model_update or both".into());
        }
        if conditions.is_empty() && scope == WrittenScope::default() {
            return Err("a rule must have conditions or a scope: this one would leave out everything".into());
        }
        let WrittenScope { sites, include, exclude } = scope;
        if [conditions.len(), sites.len(), include.len(), exclude.len()].into_iter().any(|number| number > MOST) {
            return Err(format!("a rule may have at most {MOST} conditions, sites and values"));
        }
        let sites = sites.iter().map(|site| site.parse().map_err(|error| format!("a rule's scope.sites: {error}")));
        let scope = Scope {
            sites: sites.collect::<Result<_, _>>()?,
            include: Values::of(include),
            exclude: Values::of(exclude),
        };
        let skip = Skip {
            result: actions.contains(&Action::SkipResult),
            model_update: actions.contains(&Action::SkipModelUpdate),
        };
        Ok(Self { skip, conditions, scope })
    }
}

impl CustomRule {
    /// What it leaves out of a bucket.
    pub(crate) fn skip(&self, judged: &Judged<'_>) -> Skip {
        let holds = self.scope.takes(judged.site, judged.subject)
            && self.conditions.iter().all(|condition| condition.holds(judged));
        if holds { self.skip } else { Skip::default() }
    }
}

impl Condition {
    fn holds(self, judged: &Judged<'_>) -> bool {
        let number = match self.applies_to {
            AppliesTo::Actual => judged.actual,
            AppliesTo::Typical => judged.typical,
            AppliesTo::DiffFromTypical => (judged.actual - judged.typical).abs(),
            AppliesTo::Time => judged.start as f64 / 1000.0,
        };
        match self.operator {
            Operator::Gt => number > self.value,
            Operator::Gte => number >= self.value,
            Operator::Lt => number < self.value,
            Operator::Lte => number <= self.value,
        }
    }
}

impl Scope {
    fn takes(&self, site: Option<&SiteName>, subject: &Subject) -> bool {
        let here = self.sites.is_empty() || site.is_some_and(|site| self.sites.contains(site));
        if !here || (self.include.is_empty() && self.exclude.is_empty()) {
            return here;
        }
        let value = match (subject, site) {
            (Subject::Site, site) => site.map(ToString::to_string).unwrap_or_default(),
            (other, _) => other.to_string(),
        };
        (self.include.is_empty() || self.include.contain(&value)) && !self.exclude.contain(&value)
    }
}

impl Values {
    fn of(texts: Vec<String>) -> Self {
        let list = exception::ValueList::of(&texts);
        Self(texts, list)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contain(&self, value: &str) -> bool {
        self.1.contains(value) || self.0.iter().any(|pattern| matches(pattern, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        rules: Vec<CustomRule>,
    }

    fn rule(text: &str) -> Result<CustomRule, String> {
        let file: Result<File, _> = toml::from_str(&format!("[[rules]]\n{text}"));
        file.map(|mut file| file.rules.remove(0)).map_err(|error| error.to_string())
    }

    fn skip(text: &str, host: [u8; 4], (actual, typical): (f64, f64)) -> (bool, bool) {
        let (site, subject) = ("berlin".parse().unwrap(), Subject::Address(host.into()));
        let judged = Judged { site: Some(&site), subject: &subject, start: 1_800_000_000_000, actual, typical };
        let skip = rule(text).unwrap().skip(&judged);
        (skip.result, skip.model_update)
    }

    #[test]
    fn all_conditions_have_to_hold() {
        let below = "conditions = [{ applies_to = \"actual\", operator = \"lt\", value = 350 }]";
        assert_eq!(skip(below, [10, 0, 0, 1], (349.9, 1.0)), (true, false));
        assert_eq!(skip(below, [10, 0, 0, 1], (350.0, 1.0)), (false, false));
        let both = "actions = [\"skip_result\", \"skip_model_update\"]\nconditions = [\n\
                    { applies_to = \"diff_from_typical\", operator = \"lte\", value = 10.5 },\n\
                    { applies_to = \"typical\", operator = \"gte\", value = 100 },\n]";
        assert_eq!(skip(both, [10, 0, 0, 1], (89.5, 100.0)), (true, true));
        assert_eq!(skip(both, [10, 0, 0, 1], (89.4, 100.0)), (false, false));
        assert_eq!(skip(both, [10, 0, 0, 1], (99.0, 99.0)), (false, false));
        let until =
            |time: &str| format!("conditions = [{{ applies_to = \"time\", operator = \"lt\", value = {time} }}]");
        assert!(skip(&until("1800000001"), [10, 0, 0, 1], (1.0, 1.0)).0);
        assert!(skip(&until("\"2027-01-16\""), [10, 0, 0, 1], (1.0, 1.0)).0);
        assert!(!skip(&until("\"2027-01-15T00:00:00Z\""), [10, 0, 0, 1], (1.0, 1.0)).0);
    }

    #[test]
    fn a_scope_takes_some_series() {
        let scope =
            "scope = { sites = [\"berlin\"], include = [\"10.0.0.0/24\", \"10.1.*\"], exclude = [\"10.0.0.7\"] }";
        let skips = |host| skip(scope, host, (1.0, 1.0)).0;
        assert!(skips([10, 0, 0, 1]) && skips([10, 1, 9, 9]));
        assert!(!skips([10, 0, 0, 7]) && !skips([10, 0, 1, 1]));
        assert!(!skip("scope = { sites = [\"paris\"] }", [10, 0, 0, 1], (1.0, 1.0)).0);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |text: &str| rule(text).unwrap_err();
        assert!(error("").contains("must have conditions or a scope"));
        assert!(error("actions = []\nscope = { sites = [\"a\"] }").contains("actions must be"));
        assert!(error("actions = [\"skip\"]").contains("skip_result"));
        let value = |on: &str, value: &str| {
            format!("conditions = [{{ applies_to = \"{on}\", operator = \"gt\", value = {value} }}]")
        };
        assert!(error(&value("actual", "\"many\"")).contains("must be a number"));
        assert!(error(&value("time", "\"noon\"")).contains("must be a time as"));
        assert!(error(&value("score", "1")).contains("diff_from_typical"));
        assert!(error("scope = { hosts = [\"a\"] }").contains("hosts"));
    }
}
