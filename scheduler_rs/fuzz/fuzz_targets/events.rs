//! Any bytes as calls of the scheduler's interface: nothing panics, every ticket ends once, no cap is exceeded.

#![no_main]

#[path = "../../core/tests/fuzz_events/bytes.rs"]
mod bytes;
#[path = "../../core/tests/fuzz_events/events.rs"]
mod events;

libfuzzer_sys::fuzz_target!(|input: &[u8]| events::play(input));
