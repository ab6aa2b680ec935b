//! FHIR R4 as data: resources as raw bytes, ids, references, bundles, outcomes. Pure.
//!
//! | module | what lives there |
//! |---|---|
//! | [`bundle`] | a Bundle written around raw bodies |
//! | [`check`] | whether a resource has the structure of R4 |
//! | [`date`] | dates and times as exact as they were written |
//! | [`exchange`] | batches and transactions as they come |
//! | [`json`] | JSON as a tree that keeps digits and refuses what readers take differently |
//! | [`labels`] | profiles, security labels and tags of a resource, one by one |
//! | [`limits`] | the bounds of this crate |
//! | [`outcome`] | OperationOutcome |
//! | [`patch`] | JSON Patch |
//! | [`path`] | where the values of search parameters are |
//! | [`r4`] | the definitions: types, elements, codes, search parameters, compartments |
//! | [`reference`] | references: relative, absolute, contained, urn |
//! | [`resource`] | a resource kept as the bytes that were accepted |
//! | [`search`] | what a search asks of a resource |
//! | [`subset`] | parts of resources: summaries, elements |

pub mod bundle;
pub mod check;
pub mod date;
pub mod exchange;
pub mod json;
pub mod labels;
pub mod limits;
pub mod outcome;
pub mod patch;
pub mod path;
pub mod r4;
pub mod reference;
pub mod resource;
pub mod search;
pub mod subset;

pub use bundle::{Bundle, BundleType, SearchMode};
pub use outcome::{IssueType, OperationOutcome, Severity};
pub use reference::{Reference, ReferenceError};
pub use resource::{FhirId, ResourceBody, ResourceError, TypeName};
