//! The bounds of this crate.

use std::time::Duration;

/// How long a browser believes which origins may ask what.
pub const CORS_MAX_AGE: Duration = Duration::from_mins(10);
/// Body bytes of a request to a page or an API, unless its route says another bound.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Time for a request, body and answer, unless its route says another.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Time in which it must be known who asks: tables that do not answer are a failure, and not a wait.
pub const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// Time in which a connection must have sent the head of a request.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a request's head that are buffered.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Open connections of one listener; further ones wait in the system's queue.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Time that open requests are given when the process is asked to end.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of an account's or key's name.
pub const NAME_BYTES_MAX: usize = 64;
/// Characters of a new password, at least.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Bytes of a password, at most.
pub const PASSWORD_BYTES_MAX: usize = 1_024;
/// argon2id memory in KiB (OWASP 2024: 19 MiB, 2 passes, 1 lane).
pub const ARGON2_MEMORY_KIB: u32 = 19_456;
/// argon2id passes.
pub const ARGON2_PASSES: u32 = 2;
/// argon2id lanes.
pub const ARGON2_LANES: u32 = 1;
/// Password checks that run at once: bounds memory and processor under an attack.
pub const PASSWORD_CHECKS_AT_ONCE: usize = 2;

/// Failed sign-ins of one account from one peer before it must wait.
pub const SIGN_IN_FAILURES_FREE: u32 = 5;
/// Failed sign-ins of one peer, whatever the account, before it must wait.
pub const SIGN_IN_PEER_FAILURES_FREE: u32 = 20;
/// The first wait; each further failure doubles it.
pub const SIGN_IN_WAIT_FIRST: Duration = Duration::from_secs(10);
/// The longest wait.
pub const SIGN_IN_WAIT_MAX: Duration = Duration::from_mins(15);
/// Entries of the failure table; the oldest go first.
pub const SIGN_IN_ENTRIES_MAX: usize = 10_000;

/// A session ends this long after sign-in.
pub const SESSION_ABSOLUTE: Duration = Duration::from_hours(12);
/// A session ends after this long without a request.
pub const SESSION_IDLE: Duration = Duration::from_mins(30);
/// How often a session's or key's last use is written.
pub const LAST_USE_EVERY: Duration = Duration::from_mins(1);
/// How often sessions and links that are over are removed.
pub const SESSION_SWEEP_EVERY: Duration = Duration::from_mins(10);
/// A one-time sign-in link's life.
pub const LINK_LIFE: Duration = Duration::from_mins(15);

/// Requests whose audit events wait for the writer.
pub const AUDIT_QUEUE_MAX: usize = 4_096;
/// Audit events in one commit.
pub const AUDIT_BATCH_MAX: usize = 256;
/// Audit events that wait, or are tried again while the log takes none; beyond it no answer leaves.
pub const AUDIT_WAITING_MAX: usize = 20_000;
/// Longest wait of an audit event for its commit where the setting is not *at once*.
pub const AUDIT_DELAY_MAX: Duration = Duration::from_secs(1);
/// For so long an event is tried again because another process wrote into the audit log first.
pub const AUDIT_CONFLICT_MAX: Duration = Duration::from_secs(5);
/// The longest wait between two such tries.
pub const AUDIT_CONFLICT_PAUSE_MAX: Duration = Duration::from_millis(32);
/// A live page's refreshes of one view count once in this time.
pub const AUDIT_LIVE_EVERY: Duration = Duration::from_mins(15);
/// Views remembered for that.
pub const AUDIT_LIVE_VIEWS_MAX: usize = 100_000;
/// A search that is typed goes on, for the audit log, until it rests for so long.
pub const AUDIT_TYPING_PAUSE: Duration = Duration::from_secs(10);
/// And no longer than this.
pub const AUDIT_TYPING_LONGEST: Duration = Duration::from_mins(5);
/// Searches that are remembered while they are typed.
pub const AUDIT_TYPING_MAX: usize = 10_000;
/// Patients that one such search remembers to have named; further ones are named each time.
pub const AUDIT_TYPING_PATIENTS_MAX: usize = 5_000;
/// A page's refreshes belong to its search for so long after the one before.
pub const AUDIT_LEFT_OPEN: Duration = Duration::from_hours(1);
/// Searches that are remembered for that.
pub const AUDIT_LEFT_OPEN_MAX: usize = 50_000;
/// Patients that one request's audit names, each in a row; of more it says that there were. A page of searches has up to 1,000
/// matches and 900 that come with them.
pub const AUDIT_PATIENTS_MAX: usize = 5_000;
/// Rows of one page of the audit log.
pub const AUDIT_PAGE_ROWS: u32 = 100;

/// Live connections of the process.
pub const LIVE_SUBSCRIBERS_MAX: usize = 2_000;
/// Topics of one live connection.
pub const LIVE_TOPICS_MAX: usize = 16;
/// Shortest time between two events of one live connection.
pub const LIVE_EVENT_EVERY: Duration = Duration::from_millis(500);
/// A live connection says that it is there, and checks that its session still is.
pub const LIVE_BEAT_EVERY: Duration = Duration::from_secs(10);
/// How often the outbox is looked at without a hint where all commits are this process's own.
pub const LIVE_HINT_MAX: Duration = Duration::from_secs(1);
/// And where other processes commit too.
pub const LIVE_LOOK_EVERY: Duration = Duration::from_millis(100);
/// Ids in one live event; beyond it the page is told to read all again.
pub const LIVE_IDS_MAX: usize = 200;
/// Changes read from the outbox at a time.
pub const LIVE_CHANGES_MAX: u32 = 2_000;
/// Batches of changes that a slow live connection may lag behind.
pub const LIVE_BACKLOG: usize = 256;
