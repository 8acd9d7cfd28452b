//! dispatchd: keeps the schedule of Voltus demand-response dispatches true.

pub mod clock;
pub mod delivery;
pub mod engine;
pub mod http;
pub mod listener;
pub mod model;
pub mod sandbox;
pub mod store;
pub mod sync;
pub mod voltus;
