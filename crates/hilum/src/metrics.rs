//! Counters, gauges and histograms of the whole process, as Prometheus text.

use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of histograms, in seconds.
const BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Samples wait in memory until they are counted.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// Starts counting. To be called in a runtime, before anything that counts is made.
///
/// # Errors
/// When something else counts already.
pub fn start() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)?
        .install_recorder()
        .context("metrics")?;
    // An alert on growth sees no first event of a counter that was not there before it.
    for never_yet in ["hilum_http_key_refused_total", "hilum_audit_failed_total"] {
        metrics::counter!(never_yet).absolute(0);
    }
    let samples = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(COUNT_EVERY).await;
            samples.run_upkeep();
        }
    });
    Ok(handle)
}
