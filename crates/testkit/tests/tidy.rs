//! What no compiler holds: crate edges, what the architecture page names, where time and SQL may stand, hazards
//! that have a test. Each check is a function over text, shown to catch a planted fault before it is believed.

#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate may use only these of the house: `docs/ARCHITECTURE.md`, "Crates, bottom to top".
const EDGES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("hl7v2", &["core"]),
    ("fhir", &["core"]),
    ("engines", &["core", "kafka-token"]),
    ("kafka-token", &[]),
    ("launch", &[]),
    ("chart", &["core", "fhir", "engines"]),
    ("web", &["core", "fhir", "engines"]),
    ("adt", &["core", "hl7v2", "fhir", "engines", "chart", "web"]),
    ("records", &["core", "fhir", "engines", "chart", "web"]),
    ("hilum", &["core", "hl7v2", "fhir", "engines", "chart", "web", "adt", "records", "launch"]),
    ("testkit", &["core", "hl7v2", "fhir", "engines", "chart", "web", "launch"]),
];

/// Crates that stay free of I/O and of any async runtime.
const PURE: &[&str] = &["core", "hl7v2", "fhir"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

fn files_under(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn crate_names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root().join("crates"))
        .expect("crates/ is there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The names under `[dependencies]` of a manifest (not of dev- or build-dependencies).
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name: String =
                line.chars().take_while(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
            names.insert(name);
        }
    }
    names
}

fn forbidden_edges(name: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = EDGES.iter().find(|(from, _)| *from == name) else {
        return vec![format!("crates/{name} is not in the table of edges")];
    };
    dependencies(manifest)
        .iter()
        .filter_map(|dependency| dependency.strip_prefix("hilum-"))
        .filter(|to| !allowed.contains(to))
        .map(|to| format!("{name} must not use {to}"))
        .collect()
}

#[test]
fn crates_use_only_lower_ones() {
    assert!(
        !forbidden_edges("core", "[dependencies]\nhilum-web.workspace = true\n").is_empty(),
        "planted fault"
    );
    assert!(!forbidden_edges("surprise", "").is_empty(), "planted fault");
    let mut faults = Vec::new();
    for name in crate_names() {
        let manifest =
            fs::read_to_string(root().join("crates").join(&name).join("Cargo.toml")).expect("a manifest");
        faults.extend(forbidden_edges(&name, &manifest));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

fn runtimes_in(tree: &str) -> Vec<&str> {
    tree.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| {
            ["tokio", "async-std", "smol", "futures-executor", "hyper", "mio", "rusqlite", "socket2"]
                .contains(name)
        })
        .collect()
}

#[test]
fn pure_crates_have_no_runtime_and_no_io() {
    assert_eq!(runtimes_in("hilum-core v0.1.0\ntokio v1.0.0\n"), ["tokio"], "planted fault");
    for name in PURE {
        let tree = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--locked",
                "--edges",
                "normal",
                "--prefix",
                "none",
                "--package",
                &format!("hilum-{name}"),
            ])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
        let text = String::from_utf8_lossy(&tree.stdout).into_owned();
        assert!(runtimes_in(&text).is_empty(), "{name} links {:?}", runtimes_in(&text));
    }
}

fn anyhow_outside_the_binary(name: &str, manifest: &str) -> bool {
    name != "hilum" && dependencies(manifest).contains("anyhow")
}

#[test]
fn only_the_binary_uses_anyhow() {
    assert!(anyhow_outside_the_binary("chart", "[dependencies]\nanyhow.workspace = true\n"), "planted fault");
    for name in crate_names() {
        let manifest =
            fs::read_to_string(root().join("crates").join(&name).join("Cargo.toml")).expect("a manifest");
        assert!(!anyhow_outside_the_binary(&name, &manifest), "{name} uses anyhow");
    }
}

fn dependencies_without_a_why(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut faults = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
        } else if inside && line.contains('=') && !line.contains("path = ") && !line.contains(" # ") {
            faults.push(line);
        }
    }
    faults
}

#[test]
fn every_dependency_says_why() {
    assert_eq!(
        dependencies_without_a_why("[workspace.dependencies]\nleft-pad = \"1\"\n").len(),
        1,
        "planted fault"
    );
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace manifest");
    assert!(dependencies_without_a_why(&manifest).is_empty(), "{:#?}", dependencies_without_a_why(&manifest));
}

/// Paths in backticks that begin with a folder of ours.
fn paths_named(page: &str) -> BTreeSet<&str> {
    page.split('`')
        .skip(1)
        .step_by(2)
        .map(str::trim)
        .filter(|word| {
            ["crates/", "docs/", "scripts/", "fuzz/", ".ci/", "deploy/"].iter().any(|p| word.starts_with(p))
        })
        .filter(|word| !word.contains(['<', '*', ' ', '{', '…']))
        .collect()
}

#[test]
fn every_path_that_the_architecture_names_exists() {
    assert_eq!(paths_named("see `crates/core/src/id.rs` and `tokio`").len(), 1, "planted fault");
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the architecture page");
    let named = paths_named(&page);
    assert!(named.len() > 20, "the page names its files: {}", named.len());
    let gone: Vec<_> = named.into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names what is not there: {gone:#?}");
}

/// The source without its test modules and line comments, so that tests may own time and SQL.
fn production_code(source: &str) -> String {
    let cut = source.find("#[cfg(test)]\nmod ").unwrap_or(source.len());
    let (code, _) = source.split_at(cut);
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

const AMBIENT: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now(",
    "Zoned::now",
    "Uuid::new_v4",
    "Uuid::now_v7",
    "thread_rng",
    "getrandom::",
    "OsRng",
    "env::var",
    "env::args",
];

fn ambient_reads(source: &str) -> Vec<&'static str> {
    let code = production_code(source);
    AMBIENT.iter().copied().filter(|word| code.contains(word)).collect()
}

#[test]
fn time_randomness_and_environment_are_handed_in() {
    assert_eq!(
        ambient_reads("fn f() { std::time::SystemTime::now(); }"),
        ["SystemTime::now"],
        "planted fault"
    );
    let mut faults = Vec::new();
    for name in crate_names() {
        if ["hilum", "testkit", "launch"].contains(&name.as_str()) {
            continue;
        }
        for path in files_under(&root().join("crates").join(&name).join("src"), "rs") {
            let source = fs::read_to_string(&path).expect("a source file");
            // tokio's clock is paused and advanced by tests: it is handed in already.
            let is_tokio = source.contains("use tokio::time::Instant;");
            let source = source.replace("tokio::time::Instant::now", "");
            let source = if is_tokio { source.replace("Instant::now", "") } else { source };
            for word in ambient_reads(&source) {
                faults.push(format!(
                    "{}: {word}",
                    path.strip_prefix(root()).expect("below the root").display()
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

const SQL: &[&str] = &["SELECT ", "INSERT INTO", "CREATE TABLE", "DELETE FROM", "rusqlite", "tokio_postgres"];

fn sql_in(source: &str) -> Vec<&'static str> {
    let code = production_code(source);
    SQL.iter().copied().filter(|word| code.contains(word)).collect()
}

#[test]
fn sql_ends_at_the_engines() {
    assert_eq!(sql_in("let q = \"SELECT 1\";"), ["SELECT "], "planted fault");
    let mut faults = Vec::new();
    for name in crate_names() {
        if ["engines", "testkit"].contains(&name.as_str()) {
            continue;
        }
        for path in files_under(&root().join("crates").join(&name).join("src"), "rs") {
            let shown = path.strip_prefix(root()).expect("below the root").display().to_string();
            // The bench compares against the bare engine, by name: that is its purpose.
            if shown.starts_with("crates/hilum/src/commands/bench") {
                continue;
            }
            for word in sql_in(&fs::read_to_string(&path).expect("a source file")) {
                faults.push(format!("{shown}: {word}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Every function that carries a test attribute and no `#[ignore]`, over all crates.
fn tests_of_the_house() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files_under(&root().join("crates"), "rs") {
        let source = fs::read_to_string(&path).expect("a source file");
        names.extend(tests_in(&source));
    }
    names
}

fn tests_in(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut is_test, mut ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if line.starts_with("#[ignore") {
            ignored = true;
        } else if let Some((_, rest)) = line.split_once("fn ") {
            if is_test && !ignored {
                names.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
            (is_test, ignored) = (false, false);
        }
    }
    names
}

/// Faults of the hazard log: a hazard without cause, control or a test that runs.
fn hazard_faults(text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let documents = match yaml_rust2::YamlLoader::load_from_str(text) {
        Ok(documents) => documents,
        Err(fault) => return vec![fault.to_string()],
    };
    let Some(hazards) = documents.first().and_then(|document| document["hazards"].as_vec()) else {
        return vec!["no list `hazards`".to_owned()];
    };
    let mut faults = Vec::new();
    let mut ids = BTreeMap::new();
    for hazard in hazards {
        let id = hazard["id"].as_str().unwrap_or("?").to_owned();
        *ids.entry(id.clone()).or_insert(0) += 1;
        for key in ["hazard", "cause", "control"] {
            if hazard[key].as_str().is_none_or(str::is_empty) {
                faults.push(format!("{id}: no {key}"));
            }
        }
        let named: Vec<_> =
            hazard["tests"].as_vec().into_iter().flatten().filter_map(|t| t.as_str()).collect();
        if named.is_empty() {
            faults.push(format!("{id}: no test"));
        }
        for test in named.into_iter().filter(|test| !tests.contains(*test)) {
            faults.push(format!("{id}: test {test} is missing or ignored"));
        }
    }
    faults.extend(ids.into_iter().filter(|(_, n)| *n > 1).map(|(id, _)| format!("{id}: twice")));
    faults
}

#[test]
fn every_hazard_has_a_test_that_runs() {
    let planted = "hazards:\n  - {id: H1, hazard: a, cause: b, control: c, tests: [gone]}\n";
    assert_eq!(hazard_faults(planted, &BTreeSet::new()).len(), 1, "planted fault");
    assert!(tests_in("#[test]\n#[ignore]\nfn skipped() {}").is_empty(), "planted fault");
    let text = fs::read_to_string(root().join("docs/safety/hazards.yaml")).expect("the hazard log");
    let faults = hazard_faults(&text, &tests_of_the_house());
    assert!(faults.is_empty(), "{faults:#?}");
}
