//! The bounds of the commands, and of what runs beside the doors.

use std::time::Duration;

/// Seconds after which whoever publishes the outbox and gives no sign of life is another.
pub const RELAY_LEASE_S: i64 = 10;
/// How often the outbox is looked at for something to publish without being told.
pub const RELAY_LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often a process that does not publish tries to.
pub const RELAY_RETRY_EVERY: Duration = Duration::from_secs(2);

/// How often it is noted which commit is the newest, so that it is known later what is old.
pub const SWEEP_LOOK_EVERY: Duration = Duration::from_mins(1);
/// How long rows of the search index that are closed stay at least: twice as long as a link is good.
pub const SWEEP_KEEP_S: u64 = 2 * hilum_records::limits::PAGE_TTL_S.unsigned_abs();
/// How much longer than it worked whoever sweeps the index rests: one part in so many of a core.
pub const SWEEP_REST: u32 = 50;

/// Bytes of records in one file of an archive, beyond which the next one begins: so much, and one record more, is held
/// in memory.
pub const ARCHIVE_FILE_BYTES: usize = 16 << 20;
/// Records that an export reads at once.
pub const ARCHIVE_READ_RECORDS: usize = 1_000;
/// Bytes of bodies that an export reads at once.
pub const ARCHIVE_READ_BYTES: usize = 4 << 20;
/// Seconds that an export waits for a record that the log says it has.
pub const ARCHIVE_READ_S_MAX: u64 = 60;
/// Records of an import that are on their way into the log at once, each of another key.
pub const ARCHIVE_IN_FLIGHT_MAX: usize = 256;
/// Bytes of bodies of an import that are on their way into the log at once, and one record more.
pub const ARCHIVE_IN_FLIGHT_BYTES_MAX: usize = 8 << 20;
/// Rows of a table that an archive reads or writes at once.
pub const ARCHIVE_ROWS: u32 = 500;

/// How often finished spans are handed to the collector.
pub const OTLP_EVERY: Duration = Duration::from_millis(500);
/// Spans in one request to the collector.
pub const OTLP_SPANS_MAX: usize = 512;
/// How long one request to the collector may take.
pub const OTLP_REQUEST_MAX: Duration = Duration::from_secs(5);
/// How long a collector that does not take spans is left alone: at first, and at most.
pub const OTLP_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a stopping process waits for the collector to take the last spans.
pub const OTLP_STOP_MAX: Duration = Duration::from_secs(2);
/// Bytes of a collector's answer that are read.
pub const OTLP_ANSWER_BYTES_MAX: usize = 64 << 10;
