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
/// Places of what a condition creates that several who ask at once agree on.
pub const CONDITION_PLACES_MAX: u32 = 3;
/// Bytes of a request's header that we read.
pub const HEADER_BYTES_MAX: usize = 1_024;
/// Matches in a page of a search where the client does not say.
pub const PAGE_MATCHES: u32 = 20;
/// Matches in a page at most: who asks for more gets these.
pub const PAGE_MATCHES_MAX: u32 = 1_000;
/// Seconds for which the links of a page are good.
pub const PAGE_TTL_S: i64 = 30 * 60;
/// Seconds for which one key seals links.
pub const PAGE_BUCKET_S: i64 = 3_600;
/// The sizes that the state in a link is padded to.
pub const PAGE_PADDED_BYTES: [usize; 4] = [384, 768, 1_536, 4_096];
/// Characters of a link's sealed part: base64 of the largest size, what stands before it and the tag.
pub const PAGE_TOKEN_BYTES_MAX: usize = 5_600;
/// How often a page asks for more where what it found may not be shown.
pub const PAGE_ROUNDS_MAX: u32 = 8;
/// Matches that are counted where the client does not ask for an exact number; beyond it none is told.
pub const TOTAL_MATCHES_MAX: u64 = 10_000;
/// Rows that are looked at to count them; a search that has more to look at is told no total.
pub const TOTAL_ROWS_MAX: u64 = 200_000;
/// Bytes of a form that searches.
pub const SEARCH_FORM_BYTES_MAX: usize = 3 * hilum_fhir::limits::QUERY_BYTES_MAX;
/// Resources that come with the matches of one page.
pub const INCLUDED_MAX: usize = 900;
/// References that an include follows, one behind the other.
pub const INCLUDE_ROUNDS_MAX: usize = 4;
/// Values of one of the searches that find what is included.
pub const INCLUDE_VALUES_MAX: usize = 1_000;
