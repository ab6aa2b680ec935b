//! The room's pages say everything in both languages.

use std::path::Path;

use hilum_records::WORDS;
use hilum_web::words::{self, problems};

/// Keys that no literal call names.
const DYNAMIC: [&str; 1] = ["nav."];

#[test]
fn every_word_is_there_in_both_languages() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (pages, explore) = (source.join("pages"), source.join("explore"));
    let found = problems(&WORDS, &[words::WORDS], &[&pages, &explore], &DYNAMIC).unwrap();
    assert_eq!(found, Vec::<String>::new());
}
