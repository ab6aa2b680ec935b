//! One suite for all engines of the tables: what [`hilum_engines::tables`] promises, checked on each.
//!
//! `checks` holds the promises; this file runs them on every engine, and shows that the suite finds planted faults.
#![allow(missing_docs, clippy::unwrap_used, clippy::wildcard_imports)]

mod checks;
mod postgres_only;
mod proxy;
mod queries;
mod sample;
mod subject;

use subject::{EngineUnderTest, Fault, Subject};

/// All checks.
mod run {
    pub use crate::checks::*;
    pub use crate::queries::*;
}

macro_rules! contract {
    ($($check:ident)+) => {
        mod sqlite { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let mut subject = super::Subject::new(super::EngineUnderTest::Sqlite).await;
                super::run::$check(&mut subject).await.unwrap();
            }
        )+ }
        mod postgres { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let mut subject = super::Subject::new(super::EngineUnderTest::Postgres).await;
                super::run::$check(&mut subject).await.unwrap();
            }
        )+ }
        mod oldest_postgres { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let mut subject = super::Subject::new(super::EngineUnderTest::OldestPostgres).await;
                super::run::$check(&mut subject).await.unwrap();
            }
        )+ }
    };
}

contract! {
    put_and_get
    deletes
    sets
    reads_keep_their_order
    scans
    pages
    misfits
    large_values
    all_or_nothing
    expectations
    scans_are_validated_through_a_head
    read_modify_write_loses_nothing
    one_writer_wins
    a_failing_batch_leaves_its_neighbours_whole
    neighbours_see_each_other
    numbers_of_a_commit_are_nobody_elses
    moments_grow_with_commits
    registers_take_the_newest
    offsets_are_fenced
    changes_skip_nothing
    changes_come_in_whole_commits
    leases_are_fenced
    reopening_keeps_all
    closing_ends_it
    commits_wake_who_waits
    newer_schemas_are_refused
    schemas_grow
    queries
    counts_of_queries
    queries_page_by_page
    queries_of_thousands_of_values
    queries_that_cost_too_much
    queries_say_what_they_saw
    queries_through_absent_subjects
    queries_that_do_not_fit
}

/// A check that no fault can fail proves nothing: each planted fault turns its checks red, on each engine.
macro_rules! planted {
    ($($name:ident: $fault:ident => $($check:ident)+;)+) => { mod planted { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            use super::{EngineUnderTest, Fault, Subject, run};
            for engine in [EngineUnderTest::Sqlite, EngineUnderTest::Postgres] {
                $(
                    let mut subject = Subject::planted(engine, Fault::$fault).await;
                    let outcome = run::$check(&mut subject).await;
                    assert!(outcome.is_err(), "{engine:?}: {} does not find {:?}", stringify!($check), Fault::$fault);
                )+
            }
        }
    )+ } };
}

planted! {
    ignored_expectations: IgnoresExpectations => expectations one_writer_wins read_modify_write_loses_nothing
        scans_are_validated_through_a_head a_failing_batch_leaves_its_neighbours_whole all_or_nothing;
    ignored_absence: IgnoresAbsent => expectations one_writer_wins;
    checks_after_writing: ChecksAfterWriting => expectations all_or_nothing;
    any_stamp: TakesAnyStamp => registers_take_the_newest;
    any_offset: MovesAnyOffset => offsets_are_fenced;
    numbers_before_commit: NumbersBeforeCommit => changes_skip_nothing;
    nulls_last: PutsNullsLast => scans;
    repeated_cursor: RepeatsTheCursor => scans pages;
    one_token: ForgetsToCountTokens => leases_are_fenced;
    lost_write: LosesAWrite => put_and_get all_or_nothing sets;
    over: ShowsWhatIsOver => queries;
    forgotten_check: ForgetsACheck => queries queries_page_by_page;
    one_way: NeverTurns => queries queries_page_by_page;
    each_row: GivesEachRow => queries queries_page_by_page;
    whole_texts: LooksForTheWhole => queries;
    uncounted: CountsWhatIsTooWide => counts_of_queries;
    next_commit: SaysTheNextCommit => queries queries_say_what_they_saw;
}
