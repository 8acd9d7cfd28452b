//! One file for each part that can be measured by itself.

pub mod chain;
pub mod database;
pub mod growth;
pub mod idle;
pub mod polls;
pub mod starts;
pub mod status;
pub mod webhooks;

use std::time::Duration;

/// A poll is made when it is asked for, and at no other time.
const NO_POLLS: [&str; 2] = ["--poll-interval", "1h"];

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// A number with commas between its thousands.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
