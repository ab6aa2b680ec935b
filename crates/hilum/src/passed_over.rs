//! What is not in the chart because something stored cannot be read: records of the log that were passed over, how many
//! of them can be read again, and messages that would change a damaged row. Somebody fetches them with a rebuild.

use std::time::Duration;

use hilum_adt::tables::MESSAGE;
use hilum_adt::unreadable;
use hilum_core::Position;
use hilum_engines::log::{Log, ReadMax};
use hilum_engines::tables::{Read, Row, Scan, Tables, TablesError, Value};

/// How often the places are read again beside a running server.
pub const READ_AGAIN_EVERY: Duration = Duration::from_secs(15);
/// Places that are read again at a time: those that were passed over first.
const PLACES_MAX: u32 = 256;
/// Records are counted up to here.
const COUNT_CAP: u64 = 10_000;

/// How it was at the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// Records that were passed over.
    pub records: u64,
    /// Of these, records that can be read again.
    pub readable: u64,
    /// Messages that would change rows of the tables that cannot be read.
    pub on_rows: u64,
}

/// The rule that sets a message aside which would change a row that cannot be read.
const ROWS_RULE: &str = "apply.rows";

/// What to do about them.
pub const WAY_OUT: &str = "stop the server, restore log.sqlite from a copy that has them, then `hilum rebuild chart`; \
                           else ask the senders to send them again";
/// What to do about those that can be read again.
pub const WAY_OUT_READABLE: &str = "stop the server, then `hilum rebuild chart`: what they say comes into the chart. \
                                    Copy log.sqlite and look at disk and memory: one of them said something wrong";

/// What to do about rows that cannot be read.
pub const WAY_OUT_ROWS: &str = "stop the server and run `hilum rebuild census`: it makes those rows anew from the log, \
                                and brings the messages in";

/// What stands there because of damaged rows.
pub fn of_rows(messages: u64) -> String {
    format!("{messages} messages would change stored rows that cannot be read (quarantine, rule {ROWS_RULE})")
}

impl PassedOver {
    /// For people: what there is to say, nothing when all is well.
    pub fn notes(self) -> Vec<String> {
        let Self { records, readable, on_rows } = self;
        let mut notes = Vec::new();
        if records > 0 {
            notes.push(format!(
                "{records} records of the log could not be read and were passed over (quarantine, rule {}): {WAY_OUT}",
                unreadable::RULE
            ));
        }
        if readable > 0 {
            notes.push(format!("{readable} of them can be read again: {WAY_OUT_READABLE}"));
        }
        if on_rows > 0 {
            notes.push(format!("{}: {WAY_OUT_ROWS}", of_rows(on_rows)));
        }
        notes
    }
}

fn of_rule(rule: &str) -> Scan {
    Scan::by_index(MESSAGE.name, "by_rule", vec![Value::Text(rule.to_owned())])
}

/// How many records were passed over.
///
/// # Errors
/// The tables'.
pub async fn count(tables: &Tables) -> Result<u64, TablesError> {
    tables.count(&of_rule(unreadable::RULE), COUNT_CAP).await
}

/// How many messages were set aside because they would change a damaged row.
///
/// # Errors
/// The tables'.
pub async fn count_on_rows(tables: &Tables) -> Result<u64, TablesError> {
    tables.count(&of_rule(ROWS_RULE), COUNT_CAP).await
}

/// How many of them the log gives back when it is asked again.
///
/// # Errors
/// The tables'.
pub async fn readable(log: &Log, tables: &Tables) -> Result<u64, TablesError> {
    let scan = Scan { limit: PLACES_MAX, ..of_rule(unreadable::RULE) };
    let rows = tables.read(&[Read::Scan(scan)]).await?.pop().unwrap_or_default();
    let one = ReadMax { records: 1, bytes: 0 };
    let mut readable = 0;
    for Position { stream, partition, offset } in rows.iter().filter_map(place) {
        let read = log.read(stream, partition, offset, one).await;
        readable += u64::from(read.is_ok_and(|records| !records.is_empty()));
    }
    Ok(readable)
}

/// The place that a row of the quarantine stands for.
fn place(row: &Row) -> Option<Position> {
    match row.values.get(MESSAGE.column("path")?)? {
        Value::Text(path) => path.parse().ok(),
        _ => None,
    }
}
