//! The bounds of this crate.

/// Bytes of a request's body.
pub const BODY_BYTES_MAX: usize = hilum_fhir::limits::RESOURCE_BYTES_MAX;
/// Entries of one batch or transaction.
pub const ENTRIES_MAX: usize = hilum_chart::limits::READ_RESOURCES_MAX;
/// Versions in one page of a history where the client does not say.
pub const HISTORY_VERSIONS: u32 = 20;
/// Versions in one page of a history at most: who asks for more gets these.
pub const HISTORY_VERSIONS_MAX: u32 = hilum_chart::limits::HISTORY_VERSIONS_MAX;
/// How often an update that names no version is tried again, where another writer was first.
pub const WRITE_TRIES_MAX: u32 = 8;
/// Bytes of a request's header that we read.
pub const HEADER_BYTES_MAX: usize = 1_024;
