//! The bounds of this crate.

/// Partitions of each stream of the embedded log.
pub const LOG_PARTITIONS: u16 = 8;
/// Partitions of each stream of any log.
pub const LOG_PARTITIONS_MAX: u16 = 256;
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
/// Bytes of a table's, column's or index's name.
pub const TABLE_NAME_BYTES_MAX: usize = 40;
/// Columns of one table.
pub const TABLE_COLUMNS_MAX: usize = 60;
/// Bytes of one record's body and header in the log: an MLLP frame of 16 MiB and room for its header.
pub const LOG_RECORD_BYTES_MAX: usize = 17 << 20;
/// Microseconds between two looks at the volume's free space.
pub const DISK_CHECK_MICROS: i64 = 250_000;
/// Records and bytes that a read of the log takes from the caller's own thread; more goes to a blocking thread.
pub const LOG_INLINE_READ_RECORDS_MAX: usize = 64;
/// Reader connections of each SQLite file.
pub const SQLITE_READERS_MAX: usize = 4;
/// Page cache of the log's writer, KiB.
pub const LOG_WRITER_CACHE_KIB: u32 = 4 << 10;
/// Page cache of the tables' writer, KiB.
pub const TABLES_WRITER_CACHE_KIB: u32 = 24 << 10;
/// Page cache of each reader, KiB.
pub const READER_CACHE_KIB: u32 = 1 << 10;
/// Page cache of a reader of the tables once it has answered a query, KiB: the inner pages of large indexes stay in it.
pub const QUERY_CACHE_KIB: u32 = 24 << 10;
/// Pages of 8 KiB in the write-ahead log of the log's file before they are moved into it: few, so that a commit that
/// waits for the move waits for milliseconds.
pub const LOG_WAL_PAGES_MAX: i64 = 2_000;
/// Pages of 4 KiB in the write-ahead log of the tables' file before they are moved into it: more, since hot pages are
/// written once for many commits.
pub const TABLES_WAL_PAGES_MAX: i64 = 8_000;
/// Batches that may wait for the writer of the tables.
pub const TABLES_QUEUE_MAX: usize = 64;
/// Bytes of batches that may wait for the writer of the SQLite tables; a larger batch waits alone.
pub const TABLES_QUEUE_BYTES_MAX: usize = 64 << 20;
/// Writes in one group commit of the tables, beyond its first batch.
pub const TABLES_GROUP_WRITES_MAX: usize = 50_000;
/// Reads (gets and rows asked for) that the tables answer on the caller's own thread; more goes to a blocking thread.
pub const TABLES_INLINE_READS_MAX: usize = 200;
/// Sources, probes and checks of one query.
pub const QUERY_PARTS_MAX: usize = 1_000;
/// Checks and sources within each other in one query.
pub const QUERY_DEPTH_MAX: usize = 24;
/// Subjects that one query is given.
pub const QUERY_VALUES_MAX: usize = 10_000;
/// Seconds that one query may take at most: less than a server is waited for, so that what is costly is told from a server
/// that does not answer.
pub const QUERY_S_MAX: u64 = 20;
/// Steps of SQLite's machine between two looks at whether anybody still waits for a query: about 50 µs.
pub const QUERY_STEPS_UNWATCHED: i32 = 4_000;
/// Walks in order that are merged into one; more of them are gathered first.
pub const QUERY_LEGS_MAX: usize = 16;
/// Statements that one of PostgreSQL's connections keeps prepared before a query makes it forget them all: each shape of a
/// query is one, and what clients ask has no end of shapes.
pub const QUERY_STATEMENTS_MAX: usize = 256;
/// Outbox entries that one step of pruning removes.
pub const PRUNE_ROWS_MAX: u32 = 10_000;
/// Bytes of values in one batch.
pub const BATCH_BYTES_MAX: usize = 256 << 20;
/// Batches in one group commit of the tables.
pub const TABLES_GROUP_BATCHES_MAX: usize = 256;
/// Bytes in one group commit of the tables; a larger batch goes alone.
pub const TABLES_GROUP_BYTES_MAX: usize = 32 << 20;
/// Seconds until a connection to an engine must stand.
pub const ENGINE_CONNECT_S_MAX: u64 = 5;
/// Seconds that a connection may be silent, and that a read waits for one to become free.
pub const ENGINE_SILENCE_S_MAX: u64 = 30;
/// Milliseconds until a server that keeps rows and did not answer is asked for the first time again.
pub const ENGINE_REOPEN_MS: u64 = 250;
/// Seconds at most between two tries to open tables whose server does not answer.
pub const ENGINE_REOPEN_S_MAX: u64 = 5;
/// Seconds for which a lease is given at most. One that runs for more than twice as long was given before a server's clock
/// went back; a clock that is set by less frees none that runs.
pub const LEASE_S_MAX: i64 = 180;
/// Seconds that `hilum doctor` waits for an engine.
pub const CHECKUP_S_MAX: u64 = 20;
/// Seconds until a commit must have answered.
pub const COMMIT_S_MAX: u64 = 120;
/// Seconds that a close waits for a server that keeps rows: what it does not answer by then it does not answer.
pub const ENGINE_CLOSE_S_MAX: u64 = 2;
/// Seconds in which a writer may take its own row back at its end; left behind it is removed later.
pub const UNREGISTER_S_MAX: u64 = 1;
/// Seconds for which a server is asked what became of a commit whose connection broke.
pub const COMMIT_ASK_S_MAX: u64 = 10;
/// Writes that a batch may have to be checked on the caller's own thread; more goes to a blocking thread.
pub const TABLES_INLINE_CHECK_MAX: usize = 5_000;
/// Update statements (by table and changed columns) that the tables' writer keeps.
pub const SQLITE_UPDATES_MAX: usize = 1_000;

/// Commits whose outbox entries are kept for readers that come back: older ones are pruned.
pub const OUTBOX_KEEP_COMMITS: i64 = 100_000;
/// Commits at most whose outbox entries are kept for a change feed that stands still; beyond, what it misses is lost to
/// it, and it says so.
pub const OUTBOX_RELAY_COMMITS_MAX: i64 = 1_000_000;
/// Entries of the outbox that the change feed is given at a time: whole commits, so one may be more.
pub const FEED_ENTRIES: u32 = 1_000;
/// Entries of the change feed that wait for the brokers at once.
pub const FEED_IN_FLIGHT_MAX: usize = 10_000;
/// KiB of them at most; librdkafka's own default.
pub const FEED_QUEUE_KIB_MAX: usize = 1 << 20;
/// Seconds until the brokers must have acknowledged these.
pub const FEED_S_MAX: u64 = 30;
/// Hours for which Kafka keeps the records of the change feed, when we make its topic.
pub const FEED_KEPT_H: i64 = 7 * 24;
/// Seconds between two prunings of the outbox.
pub const OUTBOX_PRUNE_EVERY_S: u64 = 60;
/// Seconds until a Kafka cluster must have answered at the start.
pub const KAFKA_START_S_MAX: u64 = 10;
/// Seconds until the brokers must have acknowledged a record; beyond, whether it is kept is not known.
pub const KAFKA_DELIVERY_S_MAX: u64 = 10;
/// Seconds until a broker must have given a record that is there.
pub const KAFKA_READ_S_MAX: u64 = 5;
/// Milliseconds that a record waits for others to go with.
pub const KAFKA_LINGER_MS: u64 = 1;
/// Milliseconds between two looks at a cluster that does not answer.
pub const KAFKA_RETRY_MS: u64 = 250;
/// Milliseconds that one question to a cluster may take.
pub const KAFKA_ANSWER_MS_MAX: u64 = 4_000;
/// Milliseconds until a partition is asked for again whose leader has changed.
pub const KAFKA_MOVED_MS: u64 = 50;
/// KiB of records that are read ahead of a partition's reader.
pub const KAFKA_FETCH_KIB_MAX: u64 = 4 << 10;
/// Seconds without a sign of life until a process's partitions go to the others.
pub const KAFKA_MEMBER_S_MAX: u64 = 6;
/// Topics of sources that one log has at most: none is ever taken back.
pub const LOG_TOPICS_MAX: usize = 32;
/// Milliseconds between two looks at which topics a log on Kafka has.
pub const KAFKA_LIST_MS: u64 = 2_000;
/// Seconds after which a worker sees at the latest that the partitions of a topic are others than before.
pub const KAFKA_TOPICS_S: u64 = 10;
/// Bytes of the prefix of topics' names.
pub const KAFKA_PREFIX_BYTES_MAX: usize = 100;
/// Seconds until an issuer of tokens must have given one.
pub const KAFKA_TOKEN_S_MAX: u64 = 10;
/// Seconds that a token lives whose issuer does not say it.
pub const KAFKA_TOKEN_LIFE_S: u64 = 300;
/// Seconds that a token must live.
pub const KAFKA_TOKEN_LIFE_S_MIN: u64 = 5;
/// Seconds between two attempts to get a token, at most.
pub const KAFKA_TOKEN_RETRY_S: u64 = 10;
/// Bytes of an issuer's answer.
pub const KAFKA_TOKEN_BYTES_MAX: usize = 64 << 10;
/// Milliseconds that brokers are asked again that refused us, before a start gives up: one of them may be starting.
pub const KAFKA_REFUSED_MS_MAX: u64 = 2_500;

/// Damaged records in a row that are looked over for readable ones behind them when nobody knows where a partition of
/// the log ends.
pub const LOG_DAMAGED_RECORDS_MAX: u64 = 1 << 16;
/// Milliseconds that whoever must be alone with a schema (or wants to share one) waits for others that just ended.
pub const TABLES_HOLD_MS_MAX: u64 = 2_000;
/// Milliseconds until a schema is asked for again whose lock was lost.
pub const TABLES_HOLD_RETRY_MS: u64 = 500;
/// Bits of a number that a commit gives out that tell those of one commit apart.
pub const NTH_BITS: u32 = 20;
/// How many numbers one commit can give out.
pub const NTH_END: u32 = 1 << NTH_BITS;
/// The first of [`NTH_END`] numbers that no column takes: they stand for those that the commit gives out.
pub const NTH_BEGIN: i64 = i64::MIN + (1 << 40);
