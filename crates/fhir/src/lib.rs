//! FHIR R4 as data: resources as raw bytes, ids, references, bundles.
