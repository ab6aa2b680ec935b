//! Secrets that open the log on Kafka: where they stand, and that they are said nowhere.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hilum_testkit::kafka::{Kafka, Secured};
use tempfile::{TempDir, tempdir};

use crate::server::{Server, Start, a01, field, request, run, wait};

const CANARY: &str = "KANARIENVOGEL";

/// A file among the secrets of `folder/data`.
fn keep(folder: &TempDir, name: &str, value: &str) {
    let secrets = folder.path().join("data/secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    let close = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    close(secrets.parent().unwrap(), 0o700);
    close(&secrets, 0o700);
    let file = secrets.join(name);
    std::fs::write(&file, format!("{value}\n")).unwrap();
    close(&file, 0o600);
}

fn config(brokers: &str, ca: &Path) -> String {
    format!(
        "[log]\nengine = \"kafka\"\nbrokers = \"{brokers}\"\ndurability = \"fsync\"\n\n[log.client]\n\
         \"security.protocol\" = \"SASL_SSL\"\n\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\
         \"sasl.username\" = \"admin\"\n\"ssl.ca.location\" = \"{}\"\n\n[logging]\nlevel = \"trace\"\n",
        ca.display()
    )
}

/// With everything written down that is ever said: the server, its pages for machines, its commands.
#[test]
fn the_brokers_password_opens_the_log_and_is_said_nowhere() {
    let password = format!("{CANARY}1");
    let kafka = Kafka::secured(&Secured { users: &[("admin", &password)], issuer: None });
    let config = config(&kafka.secured_brokers(), &kafka.ca_file());
    let folder = tempdir().unwrap();
    let start = Start { config: &config, ..Start::default() };

    keep(&folder, "log.client.sasl.password", &format!("{CANARY}2"));
    assert!(Server::try_start(&folder, &start).is_none());
    let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    assert!(said.contains("invalid credentials") && said.contains("sasl.password"), "{said}");
    assert!(!said.contains(CANARY), "{said}");

    keep(&folder, "log.client.sasl.password", &password);
    let server = Server::start(&folder, &start);
    let viewer = server.key("viewer", "admin");
    assert_eq!(field(&server.connect().ask(&a01("M1")), "MSA", 1), "AA");
    kafka.kill(1);
    let ask = |path: &str| request(server.http.unwrap(), "GET", path, &[("x-api-key", &viewer)], b"");
    let answer = |path: &str| ask(path).text();
    wait("not ready", 60, || (ask("/readyz").status == 503).then_some(()));
    let config_file = folder.path().join("hilum.toml");
    let (config_file, data) = (config_file.to_str().unwrap(), server.data.to_str().unwrap());
    let commands: [&[&str]; 2] =
        [&["config", "--config", config_file], &["doctor", "--config", config_file, "--data", data]];
    let mut said = vec![answer("/readyz"), answer("/metrics"), answer("/api/census"), server.said()];
    for command in commands {
        let output = run(command);
        said.push(String::from_utf8_lossy(&output.stdout).into_owned());
        said.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    for text in said {
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[test]
fn a_secret_that_is_said_twice_or_read_by_others_stops_the_start() {
    let folder = tempdir().unwrap();
    let text = format!(
        "[log]\nengine = \"kafka\"\nbrokers = \"127.0.0.1:9\"\n[log.token]\nsource = \"oauth\"\n\
         url = \"http://127.0.0.1:9/token\"\nclient_id = \"hilum\"\nclient_secret = \"{CANARY}\"\n"
    );
    let refused = |config: &str| {
        assert!(Server::try_start(&folder, &Start { config, ..Start::default() }).is_none());
        let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
        std::fs::remove_file(folder.path().join("stderr")).unwrap();
        assert!(!said.contains(CANARY), "{said}");
        said
    };
    let said = refused(&text);
    assert!(said.contains("http://127.0.0.1:9/token (log.token.url) cannot be asked"), "{said}");
    keep(&folder, "log.token.client_secret", CANARY);
    let said = refused(&text);
    assert!(said.contains("log.token.client_secret is said by the configuration too"), "{said}");
    let text = text.replace(&format!("client_secret = \"{CANARY}\"\n"), "");
    let file = folder.path().join("data/secrets/log.token.client_secret");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(&text);
    assert!(said.contains("chmod 600") && said.contains("log.token.client_secret"), "{said}");
}
