//! What watches a running house fits it: each metric that the code counts stands in `docs/OPERATIONS.md` and the other
//! way round; dashboard and alerts ask for nothing that is not counted; each alert fires on what it is for.

#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const PREFIX: &str = "hilum_";
/// What Prometheus makes of a histogram.
const PARTS: &[&str] = &["_bucket", "_sum", "_count"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(path).expect("a source file"));
        }
    }
}

/// Names that begin with ours, wherever they stand.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with(PREFIX)).map(str::to_owned).collect()
}

/// Metrics that code counts, and which of them are histograms.
fn counted(code: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut all, mut histograms) = (BTreeSet::new(), BTreeSet::new());
    for kind in ["counter", "gauge", "histogram"] {
        for argument in code.split(&format!("{kind}!(")).skip(1) {
            let Some(name) = argument.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
            else {
                continue;
            };
            if name.starts_with(PREFIX) {
                all.insert(name.to_owned());
                if kind == "histogram" {
                    histograms.insert(name.to_owned());
                }
            }
        }
    }
    (all, histograms)
}

/// Metrics in the first column of tables.
fn documented(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter(|line| line.starts_with("| `hilum_"));
    rows.flat_map(|row| names(row.split('|').nth(1).unwrap_or_default())).collect()
}

/// What is asked for and not counted. A histogram is asked for by its parts alone.
fn unknown(asked: &str, all: &BTreeSet<String>, histograms: &BTreeSet<String>) -> Vec<String> {
    let is_known = |name: &String| {
        let whole = PARTS.iter().find_map(|part| name.strip_suffix(part));
        whole.map_or_else(
            || all.contains(name) && !histograms.contains(name),
            |whole| histograms.contains(whole),
        )
    };
    names(asked).into_iter().filter(|name| !is_known(name)).collect()
}

fn code() -> (BTreeSet<String>, BTreeSet<String>) {
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join("crates")).expect("crates/ is there").flatten() {
        sources(&entry.path().join("src"), &mut all);
    }
    counted(&all.join("\n"))
}

/// The expressions of the dashboard.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/hilum.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().expect("an expression").to_owned()).collect()
}

#[test]
fn each_metric_is_documented_and_each_documented_one_is_counted() {
    let planted = r#"metrics::counter!("hilum_a_total"); histogram!( "hilum_b_seconds", "x" => 1)"#;
    let (all, histograms) = counted(planted);
    assert_eq!(
        documented("| `hilum_a_total{source}`, `hilum_c` | x |"),
        ["hilum_a_total", "hilum_c"].map(str::to_owned).into()
    );
    assert_eq!((all.len(), histograms.len()), (2, 1), "planted");

    let (all, _) = code();
    let pages = documented(&read("docs/OPERATIONS.md"));
    assert!(all.len() > 20, "{all:?}");
    assert_eq!(
        all.difference(&pages).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "not in docs/OPERATIONS.md"
    );
    assert_eq!(pages.difference(&all).collect::<Vec<_>>(), Vec::<&String>::new(), "counted nowhere");
}

#[test]
fn dashboard_and_alerts_ask_for_what_is_counted() {
    let (all, histograms) = code();
    for planted in ["max(hilum_lag_record)", "rate(hilum_ack_seconds[5m])", "hilum_paused_bucket"] {
        assert_eq!(unknown(planted, &all, &histograms).len(), 1, "planted fault: {planted}");
    }
    let rules = read("deploy/prometheus/hilum.rules.yml");
    assert_eq!(unknown(&rules, &all, &histograms), Vec::<String>::new());
    assert_eq!(unknown(&expressions().join("\n"), &all, &histograms), Vec::<String>::new());

    let asked = names(&(expressions().join("\n") + &rules));
    let shown = |name: &&String| asked.iter().any(|asked| asked.starts_with(name.as_str()));
    assert_eq!(
        all.iter().filter(|name| !shown(name)).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "shown nowhere"
    );

    let page = read("docs/OPERATIONS.md");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 15);
    for alert in alerts {
        assert!(
            page.contains(&format!("| `{alert}` |")),
            "docs/OPERATIONS.md does not say what to do at {alert}"
        );
        assert!(
            read("deploy/prometheus/hilum.test.yml").contains(&format!("alertname: {alert}\n")),
            "{alert} is not tried"
        );
    }
}

/// Prometheus' own tool, which `make tools` installs.
fn promtool(arguments: &[&str]) -> (bool, String) {
    let out = Command::new("promtool").args(arguments).current_dir(root()).output();
    let out = out.unwrap_or_else(|why| panic!("promtool: {why} (`make tools` installs it)"));
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), said)
}

#[test]
fn each_alert_fires_on_what_it_is_for_and_prometheus_reads_the_dashboard() {
    let (good, said) = promtool(&["test", "rules", "deploy/prometheus/hilum.test.yml"]);
    assert!(good, "{said}");

    let folder = tempfile::tempdir().expect("a folder");
    // An alert that can no longer fire is found.
    let broken =
        read("deploy/prometheus/hilum.rules.yml").replace("hilum_read_only == 1", "hilum_read_only == 2");
    fs::write(folder.path().join("hilum.rules.yml"), broken).expect("written");
    let tests = folder.path().join("hilum.test.yml");
    fs::write(&tests, read("deploy/prometheus/hilum.test.yml")).expect("written");
    let (good, said) = promtool(&["test", "rules", tests.to_str().expect("a path")]);
    assert!(!good && said.contains("HilumTakesNothing"), "planted fault: {said}");

    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (n, expression) in expressions().iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".*");
        write!(rules, "      - record: dashboard:e{n}\n        expr: {}\n", Value::from(expression))
            .expect("text");
    }
    let path = folder.path().join("dashboard.yml");
    fs::write(&path, rules).expect("written");
    let (good, said) = promtool(&["check", "rules", path.to_str().expect("a path")]);
    assert!(good, "{said}");
}
