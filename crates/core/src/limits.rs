//! The bounds of this crate.

/// Longest source name in bytes.
pub const SOURCE_NAME_BYTES_MAX: usize = 64;
/// Longest stream name in bytes.
pub const STREAM_NAME_BYTES_MAX: usize = 64;
/// Finished spans that wait for the collector; further ones are dropped and counted.
pub const TRACE_QUEUE_SPANS_MAX: usize = 8_192;
/// Seconds' worth of new traces that may begin at once after a time in which fewer did.
pub const TRACE_BURST_S: f64 = 2.0;
