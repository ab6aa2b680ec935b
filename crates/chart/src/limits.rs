//! The bounds of this crate.

use std::time::Duration;

/// Records in one batch of a projection: what is said of one encounter within a batch is folded and written once, but
/// what is decoded stays in memory until the commit.
pub const BATCH_RECORDS_MAX: usize = 1_500;
/// Bytes of bodies in one batch of a projection.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Rounds of reading that one batch may ask for.
pub const NEEDS_ROUNDS_MAX: usize = 6;
/// Rows that one range of a projection may have; the runner pages through it.
pub const RANGE_ROWS_MAX: usize = 50_000;
/// Batches of one process that are between read and commit at the same time: bounds memory.
pub const BATCHES_IN_FLIGHT_MAX: usize = 2;
/// How long a runner that was woken waits for more records before it reads.
pub const WAKE_COALESCE: Duration = Duration::from_millis(4);
/// Microseconds for which a runner that reads on does not ask again where its partition ends: so old the lag that it shows
/// may be.
pub const END_ASKED_US: i64 = 1_000_000;
/// How often an idle runner looks at the log without being woken.
pub const IDLE_POLL: Duration = Duration::from_secs(1);
/// How long partitions that were looked through wait for the others before they go on without them.
pub const FORESEE_WAIT: Duration = Duration::from_secs(5);
/// First and longest wait after a conflict.
pub const CONFLICT_BACKOFF: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));
/// How often a process looks how far the others are with the partitions that are not its own.
pub const OTHERS_POLL: Duration = Duration::from_millis(500);
/// How often a process says that it is there, and looks who else is, where several share the tables.
pub const PROCESS_SAYS: Duration = Duration::from_secs(2);
/// Signs of life of another process with the own id, behind which one of two that came at once ends. The later of two that
/// did not is gone by then.
pub const TWIN_SIGNS: u8 = 5;
/// Seconds without a sign of life after which a process counts as silent.
pub const PROCESS_SILENT_S: i64 = 10;
/// Seconds after which a silent process is forgotten.
pub const PROCESS_KEPT_S: i64 = 3_600;
/// Seconds after which a relay says at the latest that it is there and has nothing to publish.
pub const RELAY_SAYS_S: i64 = 15;
/// Seconds after which a relay that has not said anything counts as standing still.
pub const RELAY_LATE_S: i64 = 60;
/// First and longest wait after an engine's error.
pub const PAUSE_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Tries in a row to read a damaged record of the log before it is passed over: with the wait between them four
/// seconds, so that what a disk or a cache said wrongly for a moment costs no message.
pub const UNREADABLE_TRIES: u32 = 9;
/// The wait between two tries.
pub const UNREADABLE_RETRY: Duration = Duration::from_millis(500);
/// Tries for the records right behind one that was passed over: half as many as for that one, and at least these.
pub const UNREADABLE_TRIES_MIN: u32 = 2;
/// Behind so many in a row that were passed over, each further one is tried once: where a page in the middle of a tree
/// is damaged, a whole partition cannot be read, and waiting for each of its records would take days.
pub const UNREADABLE_NEIGHBOURS: u32 = 16;
/// Records before a damaged one that are looked at for when it was received.
pub const NEIGHBOURS_MAX: u64 = 64;
/// Attempts of a chart-first commit against other writers.
pub const COMMIT_ATTEMPTS_MAX: usize = 8;
/// Rows in one page of a walk over the chart (hash, rebuild).
pub const WALK_PAGE_ROWS: u32 = 500;
/// Bytes of bodies whose index rows a commit makes beside everything else that is going on; of more, on a thread of its own.
pub const WRITE_INLINE_BYTES_MAX: usize = 64 << 10;
/// Labels that are looked for when it is asked which are in use.
pub const LABELS_MAX: usize = 500;
/// Resources in one batched read.
pub const READ_RESOURCES_MAX: usize = 1_000;
/// Versions that one read of a history gives at most.
pub const HISTORY_VERSIONS_MAX: u32 = 1_000;
/// Versions that are read ahead for one page of a history of many types, as pages.
pub const HELD_PAGES_MAX: usize = 4;
/// Reads behind each other that look for versions as old as what is asked for.
pub const HISTORY_ROUNDS_MAX: usize = 200;
/// Resources of an import that are compared with what stands at a time: so few that the embedded engine answers at once.
pub const COMPARE_RESOURCES: usize = 200;
/// Writes in one commit of a rebuild.
pub const REBUILD_WRITES_MAX: usize = 5_000;
/// Types that a reference by id alone may lead to.
pub const SEARCH_TYPES_MAX: usize = 20;
/// Microseconds for which it is believed that all is indexed, once it was seen.
pub const INDEX_BELIEVED_US: i64 = 10_000_000;
/// Resources of each type whose index rows a check looks at.
pub const SAMPLE_RESOURCES: u32 = 5;
/// Addresses above one that is asked for.
pub const ABOVE_MAX: usize = 64;
