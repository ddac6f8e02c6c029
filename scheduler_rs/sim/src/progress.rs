//! What a long command is at, for who watches: one line of a terminal, or nothing.

use std::io::{IsTerminal, Write};

/// In place of what was shown before.
pub(crate) fn show(what: &str) {
    write(&format!("\r\x1b[K{what}"));
}

pub(crate) fn clear() {
    write("\r\x1b[K");
}

fn write(text: &str) {
    let mut terminal = std::io::stderr();
    if terminal.is_terminal() {
        // Progress that cannot be shown is no reason to stop.
        _ = write!(terminal, "{text}");
    }
}
