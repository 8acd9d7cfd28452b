//! The daemon as a process: told to end, told to look again, and what it tells
//! the service manager.

mod ending;
mod hangup;
mod reload;
mod service_manager;
