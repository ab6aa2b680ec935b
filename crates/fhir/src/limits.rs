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
/// Findings of one check; what is behind them is not looked at.
pub const FINDINGS_MAX: usize = 50;
