//! The bounds of this crate.

/// Bytes of a request's body.
pub const BODY_BYTES_MAX: usize = hilum_fhir::limits::RESOURCE_BYTES_MAX;
/// Entries of one batch or transaction, where configuration does not say.
pub const ENTRIES_MAX: usize = 1_000;
/// Entries of one batch or transaction that configuration may allow: they are one commit.
pub const ENTRIES_BOUND: usize = 10_000;
/// Searches of one batch or transaction, where configuration does not say.
pub const SEARCHES_MAX: usize = 1_000;
/// Bytes of a transaction's resources once they refer to each other by their ids.
pub const BUNDLE_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;
/// Resources that one resource may refer to where each of them must be there.
pub const REFERENCES_MAX: usize = 10_000;
/// Versions in one page of a history where the client does not say.
pub const HISTORY_VERSIONS: u32 = 20;
/// Versions in one page of a history at most: who asks for more gets these.
pub const HISTORY_VERSIONS_MAX: u32 = hilum_chart::limits::HISTORY_VERSIONS_MAX;
/// Versions that a page of a history looks at for those that may be shown: a short page tells that there are so many others.
pub const HISTORY_LOOKED_MAX: usize = 3_000;
/// Of these, so many at a time behind the first ones.
pub const HISTORY_LOOKED_AT_ONCE: u32 = 500;
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
/// Matches that are counted where the client does not ask for an exact number and configuration does not say; beyond it none
/// is told. Each costs what a match of a page costs before it is read.
pub const TOTALS_MAX: u64 = 500;
/// Matches that configuration may have counted so.
pub const TOTALS_BOUND: u64 = 100_000;
/// Rows that are looked at for each of these; a search that has more to look at is told no total.
pub const TOTAL_ROWS_EACH: u64 = 10;
/// Bytes of a form that searches.
pub const SEARCH_FORM_BYTES_MAX: usize = 3 * hilum_fhir::limits::QUERY_BYTES_MAX;
/// Resources that come with the matches of one page.
pub const INCLUDED_MAX: usize = 900;
/// References that an include follows, one behind the other.
pub const INCLUDE_ROUNDS_MAX: usize = 4;
/// Searches that find what is included with the matches of one page.
pub const INCLUDE_QUERIES_MAX: usize = 1_000;
/// Values of one of the searches that find what is included.
pub const INCLUDE_VALUES_MAX: usize = 1_000;
/// Bytes of what a link holds, beyond which the search is kept and named: longer links do not pass every proxy.
pub const LINKED_BYTES_MAX: usize = 1_536;
/// Seconds for which a search is kept beyond its time, so that whoever comes late is led to a new first page.
pub const KEPT_GRACE_S: i64 = 30 * 60;
/// What the size of a search that is kept is rounded up to.
pub const KEPT_PADDED_BYTES: usize = 1_024;
/// Searches that are kept at the same time; beyond it pages are linked by sealed links alone.
pub const KEPT_ROWS_MAX: u64 = 50_000;
/// Searches that are kept for one account or key at the same time, so that none takes the place of others.
pub const KEPT_ROWS_OF_ONE_MAX: u64 = 5_000;
/// Searches that are swept in one commit.
pub const KEPT_SWEPT_ROWS: u32 = 500;
/// How often keeping a search is tried, where other commits were in its way.
pub const KEPT_TRIES_MAX: u32 = 5;
/// Seconds between two sweeps of searches whose time is over.
pub const KEPT_SWEEP_EVERY_S: u64 = 300;
/// Matches before a page that is asked for by their number: all of them are looked at again.
pub const OFFSET_MAX: u32 = 8_000;
/// Types that one search names.
pub const TYPES_MAX: usize = 200;
/// Rows of what drives that are counted to explain a search.
pub const EXPLAINED_ROWS_MAX: u64 = 1_000_000;
/// Matches that are counted to explain a search.
pub const EXPLAINED_MATCHES_MAX: u64 = 10_000;
/// Files that one import takes.
pub const IMPORT_FILES_MAX: usize = 1_000_000;
/// Folders within each other that an import looks into.
pub const IMPORT_FOLDERS_DEEP_MAX: usize = 32;
/// Bytes of one document of an import, without compression: a Bundle, or a line of NDJSON.
pub const IMPORT_DOCUMENT_BYTES_MAX: usize = 128 << 20;
/// Bytes of documents that an import holds at once; a larger one is read alone.
pub const IMPORT_HELD_BYTES_MAX: usize = 144 << 20;
/// Bytes of lines that are worked on together.
pub const IMPORT_LINES_BYTES: usize = 1 << 20;
/// Bytes of a file that are looked at to find out whether it refers to resources by searches.
pub const IMPORT_PEEK_BYTES: usize = 64 << 10;
/// Resources of an import that are made ready together.
pub const IMPORT_CHUNK_RESOURCES: usize = 200;
/// Chunks that are made ready at the same time.
pub const IMPORT_CHUNKS_IN_FLIGHT: usize = 3;
/// Resources that stand in an import again while what stood there before is not committed yet.
pub const IMPORT_AGAIN_MAX: usize = 2_000;
/// Rows of one commit of an import, beyond its first resource.
pub const IMPORT_COMMIT_ROWS: usize = 40_000;
/// Bytes of bodies in one commit of an import, beyond its first resource.
pub const IMPORT_COMMIT_BYTES: usize = 16 << 20;
/// Resources of which an import remembers that they stand.
pub const IMPORT_STANDING_KEPT: usize = 200_000;
/// Searches of an import whose answers are remembered.
pub const IMPORT_SEARCHES_KEPT: usize = 200_000;
/// How often a commit of an import is made again, where other writers were first.
pub const IMPORT_TRIES_MAX: u32 = 8;
/// Refusals that an import names in its answer; a file is given all of them.
pub const IMPORT_REFUSALS_NAMED: usize = 20;
/// Resources that an export reads at a time.
pub const EXPORT_PAGE_RESOURCES: u32 = 200;
/// Bytes of resources in one file of an export.
pub const EXPORT_FILE_BYTES: u64 = 256 << 20;
/// Pages of a walk that the explorer shows of each style.
pub const EXPLORED_PAGES_MAX: usize = 5;
/// Systems of one label's code that `$meta` tells: each costs a search that leaves out those before.
pub const LABEL_SYSTEMS_MAX: usize = 32;
