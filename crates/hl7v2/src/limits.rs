//! The bounds of this crate.

/// Most bytes of one message, at every door, unless the wiring sets another cap.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most segments of one message; more is quarantined.
pub const SEGMENTS_MAX: usize = 100_000;
/// Most bytes of one header field that an acknowledgment repeats; a longer one is left out.
pub const HEADER_FIELD_BYTES_MAX: usize = 1_024;
/// Most bytes of a message that is searched for its headers.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Most PID-3 repetitions that a door looks at.
pub const PEEK_IDENTIFIERS_MAX: usize = 64;
/// Most bytes in a row that may stand between two MLLP frames before the connection is given up.
pub const STRAY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an oversized frame that are kept, so that it can be answered.
pub const OVERSIZED_HEAD_BYTES: usize = 4 * 1024;
/// MLLP frames up to this size are copied out of the read buffer, so that a queued message does not pin it.
pub const FRAME_COPY_BYTES_MAX: usize = 32 * 1024;
/// Most blank lines or blanks that one formatting escape (`\.sp9\`, `\.sk9\`) makes.
pub const ESCAPE_REPEAT_MAX: usize = 100;
/// Most repetitions of MSH-18 that are looked at.
pub const DECLARED_CHARSETS_MAX: usize = 8;
