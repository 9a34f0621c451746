//! The files of the databases: read whole into memory at the start, and again when they have changed.
//!
//! A changed file is taken once it looks the same twice in a row: it may be written in place. One that can't be used is
//! told and counted once, and what was read before stays in use.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use spikewatch_actors::{Seams, task::Kind};
use tokio::{runtime::Handle, sync::watch};

use super::{
    database::{Answer, Database},
    locator::Databases,
    tree::InvalidFile,
};
use crate::metrics::Metrics;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Most bytes of a file. While a new one is read, the old one is in memory as well.
pub const MAX_DATABASE_BYTES: u64 = 512 << 20;

/// Where peers are looked up, and how many places have windows.
#[derive(Debug, Clone, Default)]
pub struct PlaceOptions {
    /// A file that tells countries; none if empty.
    pub country_database: PathBuf,
    /// A file that tells autonomous systems; none if empty.
    pub asn_database: PathBuf,
    /// Countries that have windows of their own; none if 0.
    pub country_values: usize,
    /// Autonomous systems that have windows of their own; none if 0.
    pub asn_values: usize,
}

/// Why a database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file can't be read.
    #[error("collector.{key}: {path}: {error}; expected a MaxMind DB file (.mmdb)", path = path.display())]
    Read {
        /// Key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is too large.
    #[error("collector.{key}: {path} has more than {most} bytes", path = path.display(), most = MAX_DATABASE_BYTES)]
    TooLarge {
        /// Key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Its content is something else.
    #[error("collector.{key}: {path}: {error}", path = path.display())]
    Invalid {
        /// Key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it is.
        error: InvalidFile,
    },
}

/// What tells one version of a file from another: device, inode, length, time of its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

/// Nothing if there is no such file.
fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp(found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

/// One file that is looked at.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// The version that was read, or can't be.
    done: Option<Stamp>,
    /// What was there when it was last looked at.
    seen: Option<Stamp>,
}

/// A database as it is shared.
type Shared<A> = Arc<Database<A>>;

impl Watched {
    /// Reads the file for the first time; nothing if there is to be none.
    fn open<A: Answer>(path: &Path) -> Result<Option<(Self, Shared<A>)>, DatabaseError> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let done = stamp(path);
        let database = read(path)?;
        Ok(Some((Self { path: path.to_owned(), done, seen: done }, database)))
    }

    /// What became of a version that is new, and written to its end.
    fn look<A: Answer>(&mut self) -> Option<Result<Shared<A>, DatabaseError>> {
        let now = stamp(&self.path);
        let before = std::mem::replace(&mut self.seen, now);
        if now == self.done || now != before {
            return None;
        }
        self.done = now;
        Some(read(&self.path))
    }
}

fn read<A: Answer>(path: &Path) -> Result<Shared<A>, DatabaseError> {
    let key = A::KEY;
    let path = || path.to_owned();
    let mut content = Vec::new();
    let file = File::open(path()).and_then(|file| file.take(MAX_DATABASE_BYTES + 1).read_to_end(&mut content));
    file.map_err(|error| DatabaseError::Read { key, path: path(), error })?;
    if content.len() as u64 > MAX_DATABASE_BYTES {
        return Err(DatabaseError::TooLarge { key, path: path() });
    }
    let database = Database::new(content).map_err(|error| DatabaseError::Invalid { key, path: path(), error })?;
    tracing::info!(key, path = %path().display(), kind = database.kind(), built = database.built(), "addresses");
    Ok(Arc::new(database))
}

/// Both files.
#[derive(Debug)]
pub(crate) struct Files {
    country: Option<Watched>,
    asn: Option<Watched>,
    databases: Databases,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// One can't be used.
    pub(crate) fn open(options: &PlaceOptions) -> Result<Self, DatabaseError> {
        let (country, countries) = Watched::open(&options.country_database)?.unzip();
        let (asn, asns) = Watched::open(&options.asn_database)?.unzip();
        Ok(Self { country, asn, databases: Databases { country: countries, asn: asns } })
    }

    /// What is in use.
    pub(crate) fn databases(&self) -> Databases {
        self.databases.clone()
    }

    /// Looks whether a file has changed; true if what is in use has.
    pub(crate) fn look(&mut self, metrics: &Metrics) -> bool {
        let country = self.country.as_mut().and_then(Watched::look);
        let asn = self.asn.as_mut().and_then(Watched::look);
        let changed =
            [taken(country, &mut self.databases.country, metrics), taken(asn, &mut self.databases.asn, metrics)];
        changed.contains(&true)
    }

    /// Goes on looking until the collector ends. What is in use comes through the channel.
    pub(crate) fn follow(mut self, metrics: Metrics, seams: &Seams) -> Option<watch::Receiver<Databases>> {
        if self.databases.is_empty() {
            return None;
        }
        let (tell, told) = watch::channel(self.databases());
        let (token, runtime) = (seams.tasks.token(), Handle::current());
        seams.tasks.spawn_blocking(Kind::CONNECTION, "databases", move || {
            while runtime.block_on(async { tokio::time::timeout(LOOK, token.cancelled()).await }).is_err() {
                if self.look(&metrics) && tell.send(self.databases()).is_err() {
                    break;
                }
            }
            Ok::<_, Infallible>(())
        });
        Some(told)
    }
}

fn taken<A>(
    found: Option<Result<Shared<A>, DatabaseError>>,
    current: &mut Option<Shared<A>>,
    metrics: &Metrics,
) -> bool {
    match found {
        None => false,
        Some(Ok(database)) => {
            Metrics::add(&metrics.counters().database_reloads, 1);
            *current = Some(database);
            true
        }
        Some(Err(error)) => {
            Metrics::add(&metrics.counters().database_failures, 1);
            tracing::error!(%error, "a new version can't be used: peers are looked up in the one before");
            false
        }
    }
}

#[cfg(test)]
mod tests;
