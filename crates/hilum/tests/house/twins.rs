//! Two processes of one id: a data folder was copied with all that is in it.

use hilum_testkit::kafka::Kafka;
use hilum_testkit::postgres::Postgres;
use tempfile::tempdir;

use crate::damage::{doctor, json};
use crate::many::{config, sibling, state};
use crate::server::{Server, Start, wait};

#[test]
fn who_comes_with_the_id_of_another_one_ends_and_a_restart_does_not() {
    let (kafka, postgres) = (Kafka::start(1, &[]), Postgres::shared());
    let config = config(&kafka, postgres);
    let start = Start { config: &config, ..Start::default() };
    let folder = tempdir().unwrap();
    let one = Server::start(&folder, &start);
    let viewer = one.key("viewer", "viewer");
    wait("ready", 40, || (state(&one).0 == 200).then_some(()));
    let is_noted = |server: &Server| state(server).1["notes"].to_string().contains("process.id");
    let is_found = |server: &Server| doctor(&server.data).iter().any(|one| one.3.contains("process.id"));
    assert!(!is_noted(&one) && !is_found(&one));

    let copied = sibling(&folder);
    let id = copied.path().join("data/process.id");
    std::fs::copy(folder.path().join("data/process.id"), &id).unwrap();
    let mut two = Server::start(&copied, &start);
    // For as long as the other one lives, which is a few looks: who asks is quick, doctor is not always.
    wait("the first one says it", 20, || is_noted(&one).then_some(()));
    let status = two.ended(40);
    assert_eq!(status.code(), Some(78), "nothing starts it again: {status}");
    let said = two.said();
    let last = said.lines().find(|line| line.starts_with("hilum: ")).unwrap_or_default();
    assert!(last.contains("was there first") && last.contains("remove `process.id`"), "{said}");
    wait("it goes on alone", 20, || (!is_noted(&one) && !is_found(&one)).then_some(()));
    let processes = json(&one, "/api/sources", &viewer)["processes"].clone();
    assert!(processes.as_array().unwrap().len() == 1 && processes[0]["there"] == true, "{processes}");

    // The way out; and one that is killed and started anew is nobody else, whatever its row says.
    std::fs::remove_file(&id).unwrap();
    let mut two = Server::start(&copied, &start);
    wait("two are there", 20, || {
        let processes = json(&one, "/api/sources", &viewer)["processes"].clone();
        (processes.as_array().unwrap().len() == 2).then_some(())
    });
    two.signal("KILL");
    two.ended(10);
    let mut two = Server::start(&copied, &start);
    for server in [&one, &two] {
        wait("ready", 40, || (state(server).0 == 200).then_some(()));
    }
    // Longer than a twin takes to be found.
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert!(!is_noted(&one) && !is_noted(&two));
    }
    two.signal("TERM");
    assert!(two.ended(30).success());
    one.stop();
}
