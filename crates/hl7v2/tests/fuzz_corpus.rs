//! The corpora of the fuzz targets, replayed: what the fuzzer found once is found without it.

#![allow(clippy::unwrap_used)]

#[allow(missing_docs, unreachable_pub)]
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        run(&bytes);
        // The start of each is an input too.
        for len in (0..bytes.len()).step_by(7) {
            run(&bytes[..len]);
        }
        files += 1;
    }
    assert!(files >= 4, "{} has {files} inputs", folder.display());
}

#[test]
fn parser() {
    replay("parser", targets::parser);
}

#[test]
fn escapes() {
    replay("escapes", targets::escapes);
}

#[test]
fn charset() {
    replay("charset", targets::charset);
}

#[test]
fn mllp() {
    replay("mllp", targets::mllp);
}
