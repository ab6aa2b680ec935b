//! What a message costs where a patient, or a family, has very many. The measurements are run by hand (`--ignored
//! --nocapture`).
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod harness;

use std::time::{Duration, Instant};

use harness::{House, Msg, sqlite_tables};
use hilum_chart::rebuild::{Damaged, rebuild};

/// `DDHHMM` of the nth minute.
fn at(n: usize) -> String {
    format!("{:02}{:02}{:02}", 1 + n / 1_440, n / 60 % 24, n % 60)
}

fn message(n: usize, patient: &str, visit: &str) -> String {
    let at = at(n);
    let event = if n.is_multiple_of(7) { "A02" } else { "A08" };
    let control = format!("{patient}-{n}");
    let place = format!("W{}^{}^{}^H", n / 7 % 5, 100 + n / 7 % 20, n / 7 % 4);
    Msg::new(event, &control, &at, patient, visit)
        .at(&place)
        .pv1(7, "501^Park^Ui^^^^^^H")
        .with(&format!("NK1|1|Kim^Su{}", n % 3))
        .with("AL1|1|DA|PEN^Penicillin")
        .with(&format!("DG1|1||I1{}^Hypertension^I10", n % 4))
        .text()
}

#[allow(clippy::disallowed_methods)]
fn clock() -> Instant {
    Instant::now()
}

async fn timed(house: &House, batches: usize) -> Duration {
    let begun = clock();
    house.run_in_batches_of(batches).await;
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_does_not_fall_apart_where_partitions_meet_in_one_family() {
    let house = House::new();
    let mut raws = Vec::new();
    for n in 0..60 {
        for patient in 1_000..1_010 {
            let patient = patient.to_string();
            raws.push(message(n, &patient, &patient));
            if n == 0 {
                let merge = Msg::new("A40", &format!("M{patient}"), "010100", &patient, "").without_pv1();
                raws.push(merge.with("MRG|2000^^^H^MR").text());
            }
        }
    }
    house.send_all(&raws).await;
    let (beside, done) = (sqlite_tables(), |_: u64, _: u64| {});
    let (fold, log, live) = (&house.projection, &house.log, &house.tables);
    rebuild(fold, log, live, &beside, &house.clock, Damaged::Refuse, &done).await.unwrap();
    let commits = beside.now().await.unwrap().0;
    // One for each partition, and not one for each half of what a sibling made stale.
    assert!(commits <= 9, "{commits} commits for {} messages of one family", raws.len());
}

/// The cost of one more message, one by one, where `many` are there.
async fn one_more(why: &str, visit_of: impl Fn(usize) -> String) {
    let house = House::new();
    let mut sent = 0;
    for many in [100, 500, 1_000, 2_000, 5_000] {
        let news: Vec<String> = (sent..many).map(|n| message(n, "1", &visit_of(n))).collect();
        sent = many + 20;
        house.send_all(&news).await;
        let all = timed(&house, usize::MAX).await;
        for n in many..sent {
            house.send(&message(n, "1", &visit_of(n))).await;
        }
        let each = timed(&house, 1).await / 20;
        println!("{why}: {} at once in {all:?}; behind {many} one costs {each:?}", news.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn one_patient_with_many() {
    one_more("one visit", |_| "V1".to_owned()).await;
    one_more("visits of 20", |n| format!("V{}", n / 20)).await;
    one_more("no visit number", |_| String::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn forty_patients_with_many() {
    for (why, visits, merges) in
        [("visits of 20", 20, 0), ("one visit each", 1_000_000, 0), ("no number", 0, 0), ("merges", 20, 50)]
    {
        let house = House::new();
        let mut raws = Vec::new();
        for n in 0..540_usize {
            for patient in 0..40 {
                let patient = (1_000 + patient).to_string();
                let visit =
                    n.checked_div(visits).map_or_else(String::new, |visit| format!("{patient}-{visit}"));
                raws.push(message(n, &patient, &visit));
                if merges > 0 && n % merges == 0 {
                    let merge =
                        Msg::new("A40", &format!("M{patient}-{n}"), &at(n), &patient, "").without_pv1();
                    raws.push(merge.with(&format!("MRG|{}^^^H^MR", 2_000 + n / merges * 40 + 1)).text());
                }
            }
        }
        house.send_all(&raws).await;
        println!("{why}: {} in {:?}", raws.len(), timed(&house, usize::MAX).await);
        let begun = clock();
        house.rebuild().await;
        println!("{why}: rebuilt in {:?}", begun.elapsed());
    }
}
