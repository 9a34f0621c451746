//! The program as a user meets it: the real binary, its files, its ports, its exit codes.

mod config;
mod demo;
mod follow;
mod help;
mod hostile;
mod inspect;
mod inspect_spool;
mod intake;
mod once;
mod otlp;
mod program;
mod replay;
mod rules;
mod serving;
mod spool;
