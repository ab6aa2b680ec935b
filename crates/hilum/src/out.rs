//! Standard output of the commands: the one place that prints.

use std::io::Write as _;

/// Prints a line. A closed pipe (`hilum … | head`) is no error.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        // Nobody reads any more; the work goes on.
    }
}
