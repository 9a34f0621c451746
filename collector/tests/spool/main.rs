//! The spool against a disk that fails: what was synced is there, once, and what is lost is said.

mod budget;
mod cases;
mod damage;
mod disk;
mod random;
mod windows;
mod world;
