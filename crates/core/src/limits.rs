//! The bounds of this crate.

/// Longest source name in bytes.
pub const SOURCE_NAME_BYTES_MAX: usize = 64;
/// Longest stream name in bytes.
pub const STREAM_NAME_BYTES_MAX: usize = 64;
