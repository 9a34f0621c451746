//! Merging the windows of slices of one bucket: what [`Spool::relieve`](super::Spool::relieve) is given in production.

use std::collections::BTreeMap;

use prost::Message as _;
use spikewatch_domain::{key::Subject, window::Window};
use spikewatch_proto::{
    convert::windows::{push, read},
    v1,
};

use super::{budget::Merged, reading::StoredSlice};

/// Windows of one shard by their encoded keys, which is the order of rows; true if incomplete.
type Subjects = BTreeMap<Vec<u8>, (Subject, Window, bool)>;

/// Merges encoded [`v1::Windows`], the rows of which are ordered by shard as the slices' parts say.
///
/// # Errors
/// A payload that is no windows, or not as many rows as its parts say.
pub fn merge_windows(slices: &[StoredSlice]) -> Result<Merged, String> {
    let mut merged: BTreeMap<u32, Subjects> = BTreeMap::new();
    for slice in slices {
        let number = slice.meta.slice_no;
        let windows =
            v1::Windows::decode(slice.payload.as_slice()).map_err(|error| format!("slice {number}: {error}"))?;
        let mut rows = read(&windows).map_err(|error| format!("slice {number}: {error}"))?.into_iter();
        for part in &slice.meta.parts {
            let shard = merged.entry(part.shard).or_default();
            for row in rows.by_ref().take(part.rows as usize) {
                let mut key = Vec::new();
                row.subject.encode(&mut key);
                match shard.get_mut(&key) {
                    Some((_, window, incomplete)) => {
                        window.merge(&row.window);
                        *incomplete |= row.incomplete;
                    }
                    None => {
                        shard.insert(key, (row.subject, row.window, row.incomplete));
                    }
                }
            }
        }
        let said: u64 = slice.meta.parts.iter().map(|part| u64::from(part.rows)).sum();
        let left = rows.len() as u64;
        if left > 0 || said != windows.events.len() as u64 {
            return Err(format!("slice {number} has {} rows, its parts {said}", windows.events.len()));
        }
    }
    let mut windows = v1::Windows::default();
    let mut rows = BTreeMap::new();
    for (shard, subjects) in merged {
        rows.insert(shard, u32::try_from(subjects.len()).unwrap_or(u32::MAX));
        for (subject, window, incomplete) in subjects.into_values() {
            push(&mut windows, None, &subject, &window, incomplete);
        }
    }
    Ok(Merged { payload: windows.encode_to_vec(), rows })
}
