//! Why a store did not do what it was asked, and what that means for whoever asked.

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is none that this program can open.
    #[error("store {0:?}: expected sqlite::memory:, sqlite:///path or postgres://user@host/database")]
    Address(String),
    /// There is no database, or it lets nobody in.
    #[error("store {address}: {source}")]
    Unopened {
        /// Its address, without the password.
        address: String,
        /// Why.
        source: sqlx::Error,
    },
    /// There is a database, but none that this program made.
    #[error("store {address}: is none of this program's ({why})")]
    Foreign {
        /// Its address, without the password.
        address: String,
        /// What shows it.
        why: String,
    },
    /// The database refused or failed. Nothing was written.
    #[error("store: {0}")]
    Database(#[from] sqlx::Error),
    /// The answer to a commit never came: it may have been made or not. What counts is what the store says when it is
    /// read again.
    #[error("store: the connection failed at a commit, which may have been made or not: {0}")]
    Unknown(String),
    /// The database did not answer in time. Nothing was written.
    #[error("store: no answer within {seconds} s")]
    Silent {
        /// What was waited.
        seconds: u64,
    },
    /// The tables could not be made or brought up to date.
    #[error("store: {0}")]
    Migration(sqlx::migrate::MigrateError),
    /// It is read, not written, and its tables are not those of this program.
    #[error("the store's schema is {found}, this program reads {known}: start the detector of this version on it once")]
    Older {
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another process has it open.
    #[error("store {0} is in use by another process")]
    InUse(String),
    /// The lock beside the store's file can't be taken.
    #[error("store: cannot lock {path}: {source}")]
    Lock {
        /// The lock's file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite's locks don't hold there.
    #[error(
        "store {path} lies on a network filesystem ({kind}), where locks do not hold: use a local disk, or PostgreSQL"
    )]
    NetworkFilesystem {
        /// The store's file.
        path: String,
        /// The filesystem's type.
        kind: String,
    },
    /// A setting of the database loses commits that it has acknowledged.
    #[error("store: the database has {setting} = {value}, which {consequence}: {remedy}")]
    NotDurable {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it does.
        consequence: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Written by a newer program.
    #[error("the store's schema {found} is newer than the newest this program knows, {known}: run a newer program")]
    Newer {
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Made for another shape.
    #[error(
        "the store was made for {stored}, but {asked} is configured: both are fixed when a cluster is made; use another store"
    )]
    OtherShape {
        /// What it was made for.
        stored: String,
        /// What was asked for.
        asked: String,
    },
    /// Another leader took over.
    #[error("another detector has taken over (term {0} is no longer the newest)")]
    Deposed(u64),
    /// The database behind the connection is not the one the term was taken on: it failed over, or was restored.
    #[error("the database failed over or was restored since term {0} was taken: the term must be taken again")]
    Moved(u64),
    /// The compare-and-set of a shard failed: memory and store disagree.
    #[error("shard {0} is not where it was thought to be")]
    Conflict(u32),
    /// Numbers of 2^63 and more can't be stored.
    #[error("store: {number} is too large to be stored, in {statement:?}")]
    TooLarge {
        /// The number.
        number: u64,
        /// The statement it was for.
        statement: String,
    },
    /// What is stored does not read back.
    #[error("store: {what} is damaged: {why}")]
    Damaged {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
}

impl StoreError {
    /// True if this leader is one no more: it must drop all it holds of the store, and may ask for a new term.
    #[must_use]
    pub fn is_deposed(&self) -> bool {
        matches!(self, Self::Deposed(_) | Self::Moved(_))
    }

    /// True if the transaction may have been made or not: the store must be read again before anything is acknowledged.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

pub(super) fn damaged(what: &'static str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged { what, why: why.to_string() }
}
