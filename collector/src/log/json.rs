//! A walk through one JSON document that keeps the few fields a decoder asked for and skips the rest without storing it.
//!
//! Log shippers write `{"source":{"ip":…}}`, `{"source.ip":…}` or any mixture; the walk takes all of them as the same
//! field. Arrays give each of their values to the field, since Elasticsearch makes no difference between one and many.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::scalar::Scalar;
use crate::fault::{Fault, Reason};

/// What a key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node<G, F> {
    /// An object with fields of interest.
    Group(G),
    /// A field of interest.
    Field(F),
    /// Nothing of interest.
    Other,
}

/// The fields that a decoder wants, and where it puts them.
pub(super) trait Fields<'a> {
    /// Names the objects that hold fields of interest.
    type Group: Copy;
    /// Names the fields of interest.
    type Field: Copy;

    /// What `key` leads to inside `group`.
    fn child(group: Self::Group, key: &str) -> Node<Self::Group, Self::Field>;

    /// Takes one value of a field; called for each value of an array.
    fn set(&mut self, field: Self::Field, value: Scalar<'a>);
}

/// Walks through the document in `line`, which is an object that `root` describes.
///
/// # Errors
/// `BadLine`, with the column, if the line is no JSON object; `OutOfRange` for a number that no float can hold.
pub(super) fn walk<'a, T: Fields<'a>>(line: &'a [u8], root: T::Group, fields: &mut T) -> Result<(), Fault> {
    if line.first() != Some(&b'{') {
        let start: String = String::from_utf8_lossy(line.get(..16).unwrap_or(line)).escape_debug().collect();
        return Err(Fault::new(Reason::BadLine, format!("no JSON object: the line starts with {start}")));
    }
    let mut document = serde_json::Deserializer::from_slice(line);
    let walked = At { fields, node: Node::Group(root), line: PhantomData }.deserialize(&mut document);
    walked.and_then(|()| document.end()).map_err(|error| fault(&error))
}

fn fault(error: &serde_json::Error) -> Fault {
    let said = error.to_string();
    let what = said.split(" at line ").next().unwrap_or_default();
    let reason = if what == "number out of range" { Reason::OutOfRange } else { Reason::BadLine };
    Fault::new(reason, format!("no JSON at column {}: {what}", error.column()))
}

fn resolve<'a, T: Fields<'a>>(group: T::Group, key: &str) -> Node<T::Group, T::Field> {
    match T::child(group, key) {
        Node::Other => match key.split_once('.') {
            Some((head, tail)) => match T::child(group, head) {
                Node::Group(inner) => resolve::<T>(inner, tail),
                _ => Node::Other,
            },
            None => Node::Other,
        },
        node => node,
    }
}

/// A value somewhere in the document.
struct At<'f, 'a, T: Fields<'a>> {
    fields: &'f mut T,
    node: Node<T::Group, T::Field>,
    line: PhantomData<&'a [u8]>,
}

impl<'a, T: Fields<'a>> At<'_, 'a, T> {
    fn set<E>(self, value: Scalar<'a>) -> Result<(), E> {
        if let Node::Field(field) = self.node {
            self.fields.set(field, value);
        }
        Ok(())
    }
}

impl<'a, T: Fields<'a>> DeserializeSeed<'a> for At<'_, 'a, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.node {
            Node::Other => deserializer.deserialize_ignored_any(IgnoredAny).map(drop),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'a, T: Fields<'a>> Visitor<'a> for At<'_, 'a, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let Node::Group(group) = self.node else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        while let Some(node) = map.next_key_seed(Key::<T>(group))? {
            map.next_value_seed(At { fields: &mut *self.fields, node, line: PhantomData })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut values: A) -> Result<(), A::Error> {
        let node = match self.node {
            Node::Field(field) => Node::Field(field),
            _ => Node::Other,
        };
        while values.next_element_seed(At { fields: &mut *self.fields, node, line: PhantomData })?.is_some() {}
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        self.set(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        // Only text with escapes comes here.
        self.set(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.set(Scalar::Unsigned(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.set(u64::try_from(number).map_or(Scalar::Negative(number), Scalar::Unsigned))
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.set(Scalar::Float(number))
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(Scalar::Bool(value))
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.set(Scalar::Absent)
    }
}

/// A key of an object, resolved without being stored.
struct Key<'a, T: Fields<'a>>(T::Group);

impl<'a, T: Fields<'a>> DeserializeSeed<'a> for Key<'a, T> {
    type Value = Node<T::Group, T::Field>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a, T: Fields<'a>> Visitor<'a> for Key<'a, T> {
    type Value = Node<T::Group, T::Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(resolve::<T>(self.0, key))
    }
}
