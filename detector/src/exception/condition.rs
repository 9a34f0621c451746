//! One condition of an exception: a field, an operator, values.

use std::{net::IpAddr, sync::Arc};

use serde::Deserialize;
use spikewatch_domain::network::Network;
use spikewatch_proto::convert::results::AnomalyRecord;

use super::list::{Lists, ValueList};
use crate::field::Field;

/// Most values of one condition; longer ones are lists.
const MOST_VALUES: usize = 1000;

/// A condition.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Condition {
    field: Field,
    /// It holds if the test does not.
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// One of these.
    Is(Vec<String>),
    /// One of these patterns: `*` is any text, `?` any character.
    Matches(Vec<String>),
    /// An address of one of these.
    InNetwork(Vec<Network>),
    /// In one of these lists, which are found by their names.
    InList(Vec<(String, Option<Arc<ValueList>>)>),
    /// There is a value.
    Exists,
    /// More than this.
    Above(f64),
    /// Less than this.
    Below(f64),
}

/// A condition as files write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    field: Field,
    operator: Operator,
    #[serde(default)]
    values: Vec<toml::Value>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Operator {
    Is,
    IsNot,
    Matches,
    MatchesNot,
    InNetwork,
    NotInNetwork,
    InList,
    NotInList,
    Exists,
    ExistsNot,
    Above,
    Below,
}

impl Operator {
    fn is_negated(self) -> bool {
        matches!(self, Self::IsNot | Self::MatchesNot | Self::NotInNetwork | Self::NotInList | Self::ExistsNot)
    }
}

impl TryFrom<Written> for Condition {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { field, operator, values } = written;
        let problem = |what: String| format!("condition on {field}: {what}");
        if values.len() > MOST_VALUES {
            return Err(problem(format!("has {} values, expected at most {MOST_VALUES}; use a list", values.len())));
        }
        let wants_none = matches!(operator, Operator::Exists | Operator::ExistsNot);
        if values.is_empty() != wants_none {
            return Err(problem(if wants_none { "takes no values".into() } else { "has no values".into() }));
        }
        if field.is_number() != matches!(operator, Operator::Above | Operator::Below) {
            let expected = if field.is_number() { "above or below" } else { "no number's operator" };
            return Err(problem(format!("expected {expected}")));
        }
        let texts = || -> Vec<String> { values.iter().map(text).collect() };
        let test = match operator {
            Operator::Is | Operator::IsNot => Test::Is(texts()),
            Operator::Matches | Operator::MatchesNot => Test::Matches(texts()),
            Operator::InNetwork | Operator::NotInNetwork => {
                let networks = texts().iter().map(|text| network(text)).collect::<Result<_, _>>();
                Test::InNetwork(networks.map_err(problem)?)
            }
            Operator::InList | Operator::NotInList => {
                Test::InList(texts().into_iter().map(|name| (name, None)).collect())
            }
            Operator::Exists | Operator::ExistsNot => Test::Exists,
            Operator::Above | Operator::Below => {
                let [value] = values.as_slice() else { return Err(problem("expected one value".into())) };
                let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
                let number = number.filter(|number| number.is_finite());
                let number = number.ok_or_else(|| problem(format!("{value} is no number")))?;
                if matches!(operator, Operator::Above) { Test::Above(number) } else { Test::Below(number) }
            }
        };
        Ok(Self { field, negated: operator.is_negated(), test })
    }
}

fn text(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// An address alone is a network of one.
fn network(text: &str) -> Result<Network, String> {
    let whole = match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => format!("{text}/32"),
        Ok(IpAddr::V6(_)) => format!("{text}/128"),
        Err(_) => text.to_owned(),
    };
    whole.parse::<Network>().map_err(|error| error.to_string())
}

impl Condition {
    /// True if it holds for the record.
    #[must_use]
    pub fn holds(&self, record: &AnomalyRecord) -> bool {
        let number = self.field.number(record);
        let holds = match &self.test {
            Test::Above(least) => return number.is_some_and(|number| number > *least),
            Test::Below(most) => return number.is_some_and(|number| number < *most),
            Test::Exists => !self.field.values(record).is_empty(),
            test => self.field.values(record).iter().any(|value| test.takes(value)),
        };
        holds != self.negated
    }

    pub(super) fn resolve(&mut self, lists: &Lists) -> Result<(), String> {
        let Test::InList(named) = &mut self.test else { return Ok(()) };
        for (name, list) in named {
            let found = lists.get(name.as_str());
            *list = Some(Arc::clone(found.ok_or_else(|| format!("there is no list {name:?}"))?));
        }
        Ok(())
    }

    pub(super) fn unresolved(&self) -> Option<&str> {
        let Test::InList(named) = &self.test else { return None };
        named.iter().find(|(_, list)| list.is_none()).map(|(name, _)| name.as_str())
    }
}

impl Test {
    fn takes(&self, value: &str) -> bool {
        match self {
            Self::Is(values) => values.iter().any(|one| one == value),
            Self::Matches(patterns) => patterns.iter().any(|pattern| matches(pattern, value)),
            Self::InNetwork(networks) => {
                let address: Option<IpAddr> = value.parse().ok();
                address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
            }
            Self::InList(named) => named.iter().any(|(_, list)| list.as_ref().is_some_and(|list| list.contains(value))),
            Self::Exists | Self::Above(_) | Self::Below(_) => false,
        }
    }
}

/// Matches a pattern in which `*` is any text and `?` any character, in linear space and without recursion.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut here) = (0, 0);
    // Where the last star stood, and up to where of the text it reaches.
    let mut star: Option<(usize, usize)> = None;
    while let Some(wanted) = text.get(here) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(one) if *one == '?' || one == wanted => (at, here) = (at + 1, here + 1),
            _ => match star {
                Some((place, reach)) => {
                    star = Some((place, reach + 1));
                    (at, here) = (place + 1, reach + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|one| *one == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    #[test]
    fn patterns_match_as_expected() {
        for (pattern, text) in [("web-*", "web-1"), ("*-db", "a-b-db"), ("*a*b*", "xxaxxbxx"), ("10.0.?.1", "10.0.7.1")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("web-*", "xweb-1"), ("web-?", "web-10"), ("", "a"), ("*a", "ab"), ("a**b", "ac")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        assert!(matches("*", "") && matches("", "") && matches("***", "ü"));
    }

    /// The definition, by recursion.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => slow(rest, text) || (!text.is_empty() && slow(pattern, &text[1..])),
            (['?', rest @ ..], [_, more @ ..]) => slow(rest, more),
            ([one, rest @ ..], [other, more @ ..]) => one == other && slow(rest, more),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn as_the_definition_says(pattern in "[ab*?]{0,7}", text in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), slow(&chars(&pattern), &chars(&text)));
        }
    }
}
