//! Messages are read by the settings of their time, whatever program wrote those down (style 15, promises: a rebuild
//! gives the same chart).
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{House, Msg};
use hilum_adt::announce;
use hilum_adt::decision::Decision;
use hilum_adt::settings::SourceSettings;
use hilum_adt::view::{journey, messages};
use hilum_chart::Chart;
use hilum_core::{Authority, Digest, Envelope, Role};

/// Golden: a decision as another program wrote it, with a key that this one does not have and without most that it has.
const WRITTEN_THEN: &str = r#"{"type":"settings","source":"default","settings":{"emergency_units":["W1"],"inpatient_check_days":7}}"#;

fn admission(control: &str) -> String {
    Msg::new("A01", control, "010800", "1", "V1").at("W1^101^1^H").text()
}

fn naming(house: &House, raw: &str, sha: Digest) -> Envelope {
    Envelope { settings_sha: sha, ..house.envelopes(&[raw.to_owned()]).remove(0) }
}

#[tokio::test]
async fn settings_that_another_program_wrote_down_are_the_ones_that_apply() {
    let house = House::new();
    let sha = Digest::of(b"the canonical text of that program");
    let body = bytes::Bytes::from_static(WRITTEN_THEN.as_bytes());
    let settings = Box::new(SourceSettings::default());
    let decision = house.decision(&Decision::Settings { source: "default".to_owned(), settings });
    let decision = Envelope { settings_sha: sha, digest: Digest::of(&body), body, ..decision };
    house.append_all(&[decision, naming(&house, &admission("C1"), sha)]).await;
    // As at a start, and as a program that has not read them at its start.
    let known = announce::known(&house.log).await.unwrap();
    assert_eq!(known[&sha].emergency_units, ["W1"]);
    house.run().await;
    assert_eq!(house.census().await, ["emergency W1-101-1 I in-progress Kim, Min"]);
}

#[tokio::test]
async fn a_message_whose_settings_nobody_knows_is_set_aside_and_not_guessed_at() {
    let house = House::new();
    house.append_all(&[naming(&house, &admission("C1"), Digest::of(b"lost"))]).await;
    house.run().await;
    assert!(house.census().await.is_empty(), "no bed by another source's rules");
    let row = house.messages().await.remove(0);
    assert_eq!((&*row["status"], &*row["rule"]), ("quarantined", "settings.unknown"));
    assert_eq!(row["control_id"], "C1", "as the acknowledgment named it");
}

#[tokio::test]
async fn a_page_reads_a_message_by_its_own_settings_or_withholds_it() {
    let house = House::new();
    let settings = SourceSettings { emergency_units: vec!["W1".to_owned()], ..SourceSettings::default() };
    let decision = Decision::Settings { source: "default".to_owned(), settings: Box::new(settings.clone()) };
    let decision = Envelope { settings_sha: settings.sha(), ..house.decision(&decision) };
    house.append_all(&[decision]).await;
    // The log has them before the fold writes its row.
    let read = async |sha: Digest| journey::settings(&house.tables, &house.log, &sha).await.unwrap();
    assert_eq!(read(settings.sha()).await, Some(settings));
    assert_eq!(read(SourceSettings::default().sha()).await, Some(SourceSettings::default()));
    let lost = Digest::of(b"lost");
    assert_eq!(read(lost).await, None);

    house.append_all(&[naming(&house, &admission("C1"), lost)]).await;
    house.run().await;
    let chart = Chart::open(house.tables.clone(), house.clock.clone());
    for (role, withheld) in [(Role::Viewer, true), (Role::Operator, false)] {
        let authority = Authority::new("key:test", role);
        let query = messages::Query { control_id: Some("C1".to_owned()), limit: 1, ..Default::default() };
        let line = messages::read(&house.tables, &authority, &query).await.unwrap().remove(0);
        let sight = house.sight(&chart, &authority);
        let way = journey::read(sight, line.id).await.unwrap().journey;
        assert_eq!((way.withheld, way.text.is_none()), (withheld, withheld), "{role:?}");
    }
}
