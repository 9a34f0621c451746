//! Log lines (ECS, Zeek) → flow records.

pub mod ecs;
mod ecs_document;
mod ecs_kind;
pub(crate) mod identity;
mod json;
mod protocol;
mod scalar;
mod timestamp;
pub mod zeek;
mod zeek_json;
mod zeek_tsv;

/// A line without its end, surrounding blanks and byte order mark.
fn content(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line).trim_ascii()
}
