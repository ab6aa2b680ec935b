//! The bounds that nobody moves, read from the `limits.rs` of each crate: what is printed is what is compiled.

const FILES: &[(&str, &str)] = &[
    ("core", include_str!("../../core/src/limits.rs")),
    ("engines", include_str!("../../engines/src/limits.rs")),
    ("hl7v2", include_str!("../../hl7v2/src/limits.rs")),
    ("fhir", include_str!("../../fhir/src/limits.rs")),
    ("chart", include_str!("../../chart/src/limits.rs")),
    ("web", include_str!("../../web/src/limits.rs")),
    ("adt", include_str!("../../adt/src/limits.rs")),
    ("hilum", include_str!("limits.rs")),
];

/// One bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The crate.
    pub part: &'static str,
    /// The constant's name; its unit stands last.
    pub name: &'static str,
    /// Its value as written.
    pub value: &'static str,
    /// What it bounds.
    pub meaning: String,
}

/// All bounds, by crate.
pub fn all() -> Vec<Bound> {
    let mut bounds = Vec::new();
    for (part, text) in FILES {
        let mut meaning: Vec<&str> = Vec::new();
        // A constant that is longer than a line continues on the next one.
        for line in text.lines().map(str::trim) {
            if let Some(doc) = line.strip_prefix("///") {
                meaning.push(doc.trim());
            } else if let Some((name, rest)) =
                line.strip_prefix("pub const ").and_then(|line| line.split_once(':'))
            {
                let value = rest.split_once('=').map_or("", |(_, value)| value.trim().trim_end_matches(';'));
                bounds.push(Bound { part, name, value, meaning: meaning.join(" ") });
                meaning.clear();
            } else {
                meaning.clear();
            }
        }
    }
    bounds
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_constant_is_read_with_its_meaning() {
        let all = super::all();
        let written: usize = super::FILES.iter().map(|(_, text)| text.matches("pub const ").count()).sum();
        assert_eq!(all.len(), written);
        for bound in &all {
            assert!(!bound.value.is_empty() && !bound.meaning.is_empty(), "{bound:?}");
        }
        let frame = all.iter().find(|bound| bound.name == "MLLP_READ_BYTES").expect("a bound of the room");
        assert_eq!((frame.part, frame.value), ("adt", "16 << 10"));
    }
}
