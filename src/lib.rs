//! dispatchd: keeps the schedule of Voltus demand-response dispatches true.

pub mod clock;
pub mod http;
pub mod model;
pub mod sandbox;
