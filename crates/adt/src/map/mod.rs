//! From folded state to what others read: FHIR R4 resources, one file per resource, and the summaries of pages.
pub mod summary;
pub mod vocabulary;
