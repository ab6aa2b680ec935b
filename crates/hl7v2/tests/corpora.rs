//! Real messages of others. The corpora are not part of the project: without them the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path as FilePath, PathBuf};

use hilum_hl7v2::time::{self, Defaults};
use hilum_hl7v2::{CharsetSettings, Effect, Headers, Message, Path, batch, trigger};

/// The HL7 files of the corpora, `None` where there are none.
fn files() -> Option<Vec<PathBuf>> {
    #[allow(clippy::disallowed_methods)] // a test finds its own inputs
    let root = std::env::var_os("HILUM_CORPORA").map_or_else(
        || FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"),
        PathBuf::from,
    );
    let mut folders = vec![root.join("hl7v2")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "hl7" || extension == "txt") {
                files.push(path);
            }
        }
    }
    if files.is_empty() {
        eprintln!("skipped: no corpora at {} (set HILUM_CORPORA)", root.display());
        return None;
    }
    files.sort();
    Some(files)
}

#[test]
fn every_sample_parses_and_comes_out_as_it_went_in() {
    let Some(files) = files() else { return };
    let mut messages = 0;
    let mut adt = 0;
    let mut differing = 0;
    for file in &files {
        let raw = std::fs::read(file).unwrap();
        let (parts, _) = batch::split(&raw);
        for part in parts {
            let batch::Part::Message { bytes, .. } = part else { continue };
            let settings = CharsetSettings::new(None, Some("8859/1")).unwrap();
            let message = match Message::parse(bytes.clone(), &settings) {
                Ok(message) => message,
                Err(error) => panic!("{}: {error}", file.display()),
            };
            messages += 1;
            assert_eq!(message.render(), bytes, "{}", file.display());
            assert!(message.segment_count() > 1 || bytes.len() < 400, "{}", file.display());
            let headers = Headers::peek(&bytes);
            assert_eq!(headers.field(10), message.get(Path::of("MSH-10")).raw(), "{}", file.display());
            let peeked = headers.identifiers().next().map(|identifier| identifier.value.to_vec());
            if let Some(first) = message.get(Path::of("PID-3")).repetitions().next() {
                assert_eq!(peeked.as_deref(), Some(first.component(1).raw()), "{}", file.display());
            }
            let classified = trigger::classify(&message);
            assert!(classified.name().is_some(), "{}: {}", file.display(), classified.kind());
            if classified.code == "ADT" {
                adt += 1;
                differing += usize::from(classified.finding.is_some());
                assert!(classified.trigger.is_some(), "{}: {}", file.display(), classified.kind());
            }
        }
    }
    assert!(messages >= 80 && adt >= 30, "{messages} messages, {adt} ADT");
    eprintln!("{messages} messages of {} files, {adt} ADT, {differing} with another EVN-1", files.len());
}

#[test]
fn the_times_of_the_samples_are_read() {
    let Some(files) = files() else { return };
    let utc = time::zone("UTC").unwrap();
    let (mut read, mut wrong) = (0, 0);
    for file in files {
        let (parts, _) = batch::split(&std::fs::read(&file).unwrap());
        for part in parts {
            let batch::Part::Message { bytes, .. } = part else { continue };
            let settings = CharsetSettings::new(None, Some("8859/1")).unwrap();
            let message = Message::parse(bytes, &settings).unwrap();
            let defaults = Defaults::of(&message, &utc);
            for path in [Path::of("MSH-7"), Path::of("EVN-2"), Path::of("PID-7"), Path::of("PV1-44")] {
                match time::read(&message.get(path), path, &defaults) {
                    Ok(Some(_)) => read += 1,
                    Ok(None) => {}
                    Err(_) => wrong += 1,
                }
            }
        }
    }
    assert!(read > 200 && wrong < read / 20, "{read} read, {wrong} wrong");
}

#[test]
fn a_merge_names_its_pair() {
    let Some(files) = files() else { return };
    let Some(file) = files.iter().find(|file| file.ends_with("ADT-A40-01.hl7")) else { return };
    let message = Message::parse(std::fs::read(file).unwrap().into(), &CharsetSettings::default()).unwrap();
    assert!(matches!(trigger::classify(&message).trigger.unwrap().effect, Effect::Merge(_)));
    assert_eq!(message.text("PID-3.1").as_deref(), Some("12345"));
    assert_eq!(message.text("MRG-1.1").as_deref(), Some("56789"));
}
