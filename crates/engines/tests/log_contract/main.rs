//! One suite for all engines of the log: what [`hilum_engines::log`] promises, checked on each.
//!
//! `checks` holds the promises; this file runs them on every engine, and shows that the suite finds planted faults.
#![allow(missing_docs, clippy::unwrap_used)]

mod checks;
mod embedded_only;
mod kafka_only;
mod sample;
mod secured;
mod subject;
mod tokens;
mod topics;

use subject::{EngineUnderTest, Fault, Subject};

macro_rules! contract {
    ($($check:ident)+) => {
        mod embedded { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let mut subject = super::Subject::new(super::EngineUnderTest::Embedded).await;
                super::checks::$check(&mut subject).await.unwrap();
            }
        )+ }
        mod kafka { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let mut subject = super::Subject::new(super::EngineUnderTest::Kafka).await;
                super::checks::$check(&mut subject).await.unwrap();
            }
        )+ }
        mod kafka_over_tls { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let mut subject = super::Subject::new(super::EngineUnderTest::KafkaOverTls).await;
                super::checks::$check(&mut subject).await.unwrap();
            }
        )+ }
    };
}

contract! {
    records_come_back_in_the_order_of_append
    a_key_always_goes_to_one_partition_and_keys_spread
    reads_are_bounded_and_empty_at_the_end
    reopening_keeps_all_and_the_epoch
    each_record_knows_when_it_was_durable
    appending_wakes_who_waits
    a_large_record_is_kept_and_a_larger_one_refused_beside_whole_neighbours
    a_body_that_is_not_its_digest_is_refused
    a_record_of_a_newer_program_is_not_taken_for_damage
    what_is_none_of_ours_is_named_and_stepped_over
    one_record_is_looked_up_while_others_are_read
    what_was_acknowledged_while_it_closed_is_there
    two_processes_write_one_log
}

/// A check that no fault can fail proves nothing: each planted fault turns its checks red, on each engine.
macro_rules! planted {
    ($($name:ident: $fault:ident => $($check:ident)+;)+) => { mod planted { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            use super::{EngineUnderTest, Fault, Subject, checks};
            for engine in [EngineUnderTest::Embedded, EngineUnderTest::Kafka] {
                $(
                    let mut subject = Subject::planted(engine, Fault::$fault).await;
                    let outcome = checks::$check(&mut subject).await;
                    assert!(outcome.is_err(), "{engine:?}: {} does not find {:?}", stringify!($check), Fault::$fault);
                )+
            }
        }
    )+ } };
}

planted! {
    lost_record: LosesARecord => records_come_back_in_the_order_of_append;
    kept_twice: KeepsTwice => records_come_back_in_the_order_of_append a_key_always_goes_to_one_partition_and_keys_spread;
    turned_order: TurnsTheOrder => records_come_back_in_the_order_of_append reads_are_bounded_and_empty_at_the_end;
    ignored_bound: IgnoresTheBound => reads_are_bounded_and_empty_at_the_end;
    ignored_from: IgnoresFrom => reads_are_bounded_and_empty_at_the_end one_record_is_looked_up_while_others_are_read;
    scattered_keys: Scatters => records_come_back_in_the_order_of_append a_key_always_goes_to_one_partition_and_keys_spread;
}
