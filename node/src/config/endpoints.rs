//! One endpoint or several: a text (separated by commas) or a list of texts.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::text::Endpoint;

/// At least one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    /// Just that one.
    #[must_use]
    pub(crate) fn one(endpoint: Endpoint) -> Self {
        Self(vec![endpoint])
    }

    /// As URLs.
    #[must_use]
    pub(crate) fn urls(&self) -> Vec<String> {
        self.0.iter().map(|endpoint| endpoint.url().to_owned()).collect()
    }

    fn read<E: de::Error>(texts: &[&str]) -> Result<Self, E> {
        let read = |text: &&str| text.trim().parse().map_err(E::custom);
        let endpoints: Vec<_> = texts.iter().map(read).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(E::custom("is empty; expected one or more endpoints, like http://127.0.0.1:7433"));
        }
        Ok(Self(endpoints))
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Endpoints;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an endpoint, or a list of endpoints")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoints, E> {
        Endpoints::read(&text.split(',').collect::<Vec<_>>())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Endpoints, A::Error> {
        let mut texts: Vec<String> = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Endpoints::read(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

impl<'de> Deserialize<'de> for Endpoints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Endpoints {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_str(one.url()),
            several => serializer.collect_seq(several.iter().map(Endpoint::url)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Table {
        detector: Endpoints,
    }

    fn read(text: &str) -> Result<Table, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn one_or_several_and_written_as_they_are_read() {
        let one = read("detector = \"http://a:1\"").unwrap();
        assert_eq!(one.detector.urls(), ["http://a:1"]);
        let several = read("detector = [\"http://a:1\", \"http://b:2\"]").unwrap();
        assert_eq!(several.detector.urls(), ["http://a:1", "http://b:2"]);
        assert_eq!(read("detector = \"http://a:1, http://b:2\"").unwrap(), several);
        for table in [one, several] {
            assert_eq!(read(&toml::to_string(&table).unwrap()).unwrap(), table);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(read("detector = []").unwrap_err().contains("expected one or more endpoints"));
        assert!(read("detector = [\"a:1\"]").unwrap_err().contains("\"a:1\" is no endpoint"));
        assert!(read("detector = \"http://a:1,,\"").unwrap_err().contains("\"\" is no endpoint"));
        assert!(read("detector = 5").unwrap_err().contains("a list of endpoints"));
    }
}
