//! A mark beside an SQLite file, by which an older copy of the file is known.
//!
//! The mark is a line of text, `LINEAGE PROGRESS`: the lineage in hexadecimal, and the sum of the term and of all epochs and
//! commit numbers, which only grows. It is written after the transaction that it tells of, so a store that lies behind its
//! mark has lost commits: it was copied back, or the disk lost what it had confirmed. Collectors may have forgotten what those
//! commits held, and epochs would be given out a second time; so such a store begins a new lineage, under which everything
//! issued before is void.
//!
//! It notices neither a copy that was restored together with its mark, nor what was lost within the last ten seconds. Both
//! show when a collector has trimmed more than the store's pairs cover.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    StoreError,
    inspect::hexadecimal,
    sql::{Work, sql},
};

/// Time between two writes.
const EVERY: Duration = Duration::from_secs(10);

/// Where a store stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) lineage: [u8; 16],
    pub(super) progress: u64,
}

/// The file, and when it was last written.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    written: Mutex<Option<Instant>>,
}

impl Mark {
    /// The mark of a store's file.
    pub(super) fn beside(file: &Path) -> Self {
        Self { path: file.with_added_extension("mark"), written: Mutex::new(None) }
    }

    /// What it says; nothing if there is none. One that can't be read is as good as none, and said.
    pub(super) async fn read(&self) -> Option<Standing> {
        let text = match tokio::fs::read_to_string(&self.path).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the store's mark can't be read: a restore would not be noticed");
                return None;
            }
        };
        let standing = parse(&text);
        if standing.is_none() {
            tracing::warn!(path = %self.path.display(), "the store's mark is damaged: a restore would not be noticed");
        }
        standing
    }

    /// Writes it, if that was not done lately.
    pub(super) async fn write_now_and_then(&self, store: impl AsyncFnOnce() -> Result<Standing, StoreError>) {
        let now = Instant::now();
        {
            let Ok(mut written) = self.written.lock() else { return };
            if written.is_some_and(|last| now - last < EVERY) {
                return;
            }
            *written = Some(now);
        }
        match store().await {
            Ok(standing) => self.write(&standing).await,
            Err(error) => tracing::debug!(%error, "the store's mark was not written"),
        }
    }

    /// Writes it.
    pub(super) async fn write(&self, standing: &Standing) {
        let new = self.path.with_added_extension("new");
        let text = format!("{} {}\n", hexadecimal(&standing.lineage), standing.progress);
        let written = async {
            tokio::fs::write(&new, text).await?;
            tokio::fs::rename(&new, &self.path).await
        };
        if let Err(error) = written.await {
            tracing::warn!(path = %self.path.display(), %error, "the store's mark can't be written: a restore would not be noticed");
        }
    }
}

fn parse(text: &str) -> Option<Standing> {
    let (lineage, progress) = text.trim_end().split_once(' ')?;
    if lineage.len() != 32 || !lineage.is_ascii() {
        return None;
    }
    let lineage = u128::from_str_radix(lineage, 16).ok()?.to_be_bytes();
    Some(Standing { lineage, progress: progress.parse().ok()? })
}

/// How far a store is: a number that every claim, open and commit raises.
pub(super) async fn progress(work: &mut Work) -> Result<u64, StoreError> {
    let sum =
        "SELECT term + (SELECT COALESCE(SUM(epoch + commit_no), 0) FROM shard) AS progress FROM lease WHERE id = 1";
    work.row(sql(sum)).await?.map_or(Ok(0), |row| row.number("progress"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_damage_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db");
        let mark = Mark::beside(&file);
        assert_eq!(mark.read().await, None);
        let standing = Standing { lineage: [0xa7; 16], progress: 42 };
        mark.write(&standing).await;
        assert_eq!(mark.read().await, Some(standing));
        for damage in ["", "a7 1", "zz", &format!("{} x", "a7".repeat(16))] {
            std::fs::write(folder.path().join("store.db.mark"), damage).unwrap();
            assert_eq!(mark.read().await, None, "{damage:?}");
        }
    }
}
