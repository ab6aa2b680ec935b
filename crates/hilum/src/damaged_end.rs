//! What is said of a partition of the log whose end is damaged, and what there is to do.

use hilum_core::Stream;
use hilum_engines::log::DamagedEnd;

/// What to do where it goes on.
pub const WAY_OUT: &str = "what of them was applied stays in the chart: do not rebuild without a copy. Keep this log.sqlite; with a \
                           copy of it that has them: stop the server, restore the copy, run `hilum rebuild chart --behind keep`, \
                           and ask the senders for what came since the copy. Without one, ask the senders to send them again";

/// What to do where it does not.
pub const WAY_OUT_UNSURE: &str = "stop the server and keep this log.sqlite; restore a copy of it, run `hilum rebuild chart --behind \
                                  keep`, and ask the senders for what came since the copy. Without one: `hilum rebuild chart \
                                  --behind keep --without-damaged` lets it go on behind what can be read, and keeps what \
                                  was applied; ask the senders for the rest";

/// What was found.
pub fn found(end: &DamagedEnd) -> String {
    let DamagedEnd { stream, partition, before } = end;
    match before {
        Some(before) => {
            format!(
                "{stream}/{partition}: the newest records before {before} cannot be read; it goes on behind them"
            )
        }
        None if *stream == Stream::Decisions => format!(
            "{stream}/{partition}: its end is damaged and not known; no decision is kept there, and a source whose \
             settings are not known takes nothing"
        ),
        None => format!(
            "{stream}/{partition}: its end is damaged and not known; nothing is acknowledged of the patients whose \
             messages it keeps"
        ),
    }
}

/// Both, in one line.
pub fn note(end: &DamagedEnd) -> String {
    format!("log {}: {}", found(end), way_out(end))
}

/// What to do about it.
pub const fn way_out(end: &DamagedEnd) -> &'static str {
    if end.before.is_some() { WAY_OUT } else { WAY_OUT_UNSURE }
}
