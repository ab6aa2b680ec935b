//! The bounds of this crate.

/// Partitions of each stream of the embedded log.
pub const LOG_PARTITIONS: u16 = 8;
/// Bytes of records that may wait for the log's writer before `append` waits and the doors push back.
pub const LOG_QUEUE_BYTES_MAX: usize = 64 << 20;
/// Records in one group commit of the log.
pub const LOG_GROUP_RECORDS_MAX: usize = 4_096;
/// Bytes in one group commit of the log.
pub const LOG_GROUP_BYTES_MAX: usize = 32 << 20;
/// Share of the volume that stays free: below it nothing is accepted.
pub const DISK_RESERVE_RATIO: f64 = 0.05;
/// Bytes of key text in one row.
pub const KEY_TEXT_BYTES_MAX: usize = 1_024;
/// Rows that one scan returns at most.
pub const SCAN_ROWS_MAX: u32 = 10_000;
/// Writes in one batch.
pub const BATCH_WRITES_MAX: usize = 200_000;
