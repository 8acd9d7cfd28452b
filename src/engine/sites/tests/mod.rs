//! The plan, by statements and by properties.

mod holds;
mod memory;
mod properties;
mod world;
