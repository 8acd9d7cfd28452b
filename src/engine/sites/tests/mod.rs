//! The plan, by statements and by properties.

mod abandoned;
mod holds;
mod memory;
mod names;
mod overrides;
mod properties;
mod retold;
mod world;
