//! A real Prometheus reads a running house with the rules and the dashboard of `deploy/`.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::tempdir;

use crate::server::{Server, Start, a01, field, request, wait};

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What needs a cause that this test does not give: another process, a code without a map, Kafka.
const CONDITIONAL: &[&str] =
    &["hilum_process_there", "hilum_adt_unmapped_codes_total", "hilum_relay_", "hilum_trace_"];

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        write!(all, "%{byte:02X}").unwrap();
        all
    })
}

#[test]
fn prometheus_finds_what_dashboard_and_alerts_ask_for() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").canonicalize().unwrap();
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut mllp = server.connect();
    assert_eq!(field(&mllp.ask(&a01("WATCHED")), "MSA", 1), "AA");
    assert_eq!(field(&mllp.ask("MSH|^~\\&|A|B|C|D|20260401||ADT^A01||P|2.5\r"), "MSA", 1), "AR");
    // One of this connection has ended.
    drop(mllp);

    let target = server.http.unwrap();
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
         rule_files: ['{}']\n\
         scrape_configs:\n  - job_name: hilum\n    static_configs: [{{ targets: ['{target}'] }}]\n",
        deploy.join("prometheus/hilum.rules.yml").display()
    );
    let path = folder.path().join("prometheus.yml");
    fs::write(&path, config).unwrap();
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _prometheus = Prometheus(
        Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|why| panic!("prometheus: {why} (`make tools` installs it)")),
    );
    let ask = |path: &str| -> Option<Value> {
        // It answers 503 until it is ready, and nobody listens before.
        std::net::TcpStream::connect(address).ok()?;
        let answer = request(address, "GET", path, &[], b"");
        (answer.status == 200).then(|| serde_json::from_slice(&answer.body).ok())?
    };
    let query = |expression: &str| ask(&format!("/api/v1/query?query={}", encode(expression)));
    let found = |answer: &Value| answer["data"]["result"].as_array().is_some_and(|found| !found.is_empty());
    wait("two reads of the metrics", 60, || {
        // A rate takes two of them.
        query("rate(hilum_ack_seconds_count[1m])").filter(|answer| found(answer))
    });

    let dashboard: Value =
        serde_json::from_slice(&fs::read(deploy.join("grafana/hilum.json")).unwrap()).unwrap();
    let targets =
        dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array());
    let mut asked = 0;
    for target in targets.flatten() {
        let expression = target["expr"].as_str().unwrap();
        let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
        if CONDITIONAL.iter().any(|metric| expression.contains(metric)) {
            continue;
        }
        wait(&expression, 30, || query(&expression).filter(|answer| found(answer)));
        asked += 1;
    }
    assert!(asked > 25, "{asked}");

    // A new house that is well raises nothing.
    let alerts = wait("the rules", 30, || ask("/api/v1/alerts"));
    let alerts: Vec<&Value> = alerts["data"]["alerts"].as_array().unwrap().iter().collect();
    assert!(alerts.is_empty(), "{alerts:?}");
}
