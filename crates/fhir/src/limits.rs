//! The bounds of this crate.

/// Bytes of one resource.
pub const RESOURCE_BYTES_MAX: usize = 8 << 20;
/// Bytes of a logical id (<https://hl7.org/fhir/R4/datatypes.html#id>).
pub const ID_BYTES_MAX: usize = 64;
/// Bytes of a resource type's name; the longest of R4 has 35.
pub const TYPE_BYTES_MAX: usize = 64;
/// Bytes of a reference's text.
pub const REFERENCE_BYTES_MAX: usize = 2_048;
/// Objects and arrays within each other in one resource.
pub const NESTING_MAX: usize = 64;
/// Bytes of one number; R4 asks for 18 digits (<https://hl7.org/fhir/R4/datatypes.html#decimal>).
pub const NUMBER_BYTES_MAX: usize = 64;
/// Powers of ten that a number in a search is written with, either way; R4 names no bound. With all its digits it is one that a
/// double holds.
pub const EXPONENT_MAX: u32 = 200;
/// Powers of ten that a number in a resource is written with, either way: those of a double, which is what programs hold. A
/// published example has -245.
pub const DECIMAL_EXPONENT_MAX: u32 = 308;
/// Operations of one JSON Patch.
pub const PATCH_OPERATIONS_MAX: usize = 1_000;
/// Names in one `_elements`.
pub const ELEMENTS_MAX: usize = 100;
/// Findings of one check; what is behind them is not looked at.
pub const FINDINGS_MAX: usize = 50;
/// Bytes of one search: names and values.
pub const QUERY_BYTES_MAX: usize = 64 << 10;
/// Parameters of one search.
pub const QUERY_PARAMETERS_MAX: usize = 64;
/// Values of one search, of all its parameters.
pub const QUERY_VALUES_MAX: usize = 1_000;
/// Parameters of one search that ask who has none of their values: no index leads to these.
pub const QUERY_NEGATIONS_MAX: usize = 16;
/// Bytes of one value.
pub const QUERY_VALUE_BYTES_MAX: usize = 2_048;
/// Digits of a number in a search.
pub const QUERY_DIGITS_MAX: usize = 30;
/// References that one criterion follows, one behind the other.
pub const CHAIN_STEPS_MAX: usize = 5;
/// Ways that a criterion with references to several types branches into.
pub const CHAIN_WAYS_MAX: usize = 40;
/// Keys of one `_sort`.
pub const SORT_KEYS_MAX: usize = 5;
/// `_include` and `_revinclude` of one search.
pub const INCLUDES_MAX: usize = 20;
/// Values of one resource's search parameters.
pub const INDEX_ROWS_MAX: usize = 10_000;
/// Bytes of a unit that is looked up in UCUM.
pub const UNIT_BYTES_MAX: usize = 64;
/// Units that are remembered with what they are of their canonical one.
pub const UNITS_MAX: usize = 4_096;
/// Codes of a value set that a search looks for.
pub const TERMS_CODES_MAX: usize = 1_000;
/// What value sets are made of, of all that one search looks into: codes, hierarchies, other value sets.
pub const TERMS_PARTS_MAX: usize = 2_000;
/// Concepts within each other.
pub const TERMS_DEPTH_MAX: usize = 40;
