//! FHIR R4 as data: resources as raw bytes, ids, references, bundles, outcomes. Pure.
//!
//! | module | what lives there |
//! |---|---|
//! | [`bundle`] | a Bundle written around raw bodies |
//! | [`limits`] | the bounds of this crate |
//! | [`outcome`] | OperationOutcome |
//! | [`reference`] | references: relative, absolute, contained, urn |
//! | [`resource`] | a resource kept as the bytes that were accepted |

pub mod bundle;
pub mod limits;
pub mod outcome;
pub mod reference;
pub mod resource;

pub use bundle::{Bundle, BundleType, SearchMode};
pub use outcome::{IssueType, OperationOutcome, Severity};
pub use reference::{Reference, ReferenceError};
pub use resource::{FhirId, ResourceBody, ResourceError, TypeName};
