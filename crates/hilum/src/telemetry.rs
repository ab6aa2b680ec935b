//! Hands finished spans to a collector: OTLP over HTTP, in protobuf. Nobody waits for it: what it does not take waits in
//! a bounded queue, and what has no room there is dropped and counted.

mod wire;

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hilum_core::Tracer;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Telemetry;
use crate::house::House;
use crate::limits;

/// Takes spans from the house's tracer until it is told to stop.
#[derive(Debug)]
pub struct Exporter {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Begins to hand over what the house tells; `None` where it tells nothing.
///
/// # Errors
/// Names the key that is wrong.
pub fn start(house: &House) -> anyhow::Result<Option<Exporter>> {
    let telemetry = &house.config.telemetry;
    if !telemetry.is_on() {
        return Ok(None);
    }
    let telemetry = telemetry.clone().with_secrets(house.folder.settings()?)?;
    let (stop, stopped) = watch::channel(false);
    let collector = Collector {
        client: client(&telemetry)?,
        url: telemetry.url()?,
        resource: wire::resource(house),
        tracer: house.tracer.clone(),
        held: None,
        pause: Duration::ZERO,
        dropped: 0,
    };
    // An alert on growth sees no first event of a counter that was not there before it.
    for why in ["queue", "refused", "stopped"] {
        metrics::counter!("hilum_trace_spans_dropped_total", "why" => why).absolute(0);
    }
    metrics::counter!("hilum_trace_spans_total").absolute(0);
    house.tracer.open();
    tracing::info!(collector = %collector.url, sample = telemetry.sample, "traces are told");
    Ok(Some(Exporter { stop, task: tokio::spawn(collector.run(stopped)) }))
}

impl Exporter {
    /// Hands over what is left, as far as the collector takes it in time.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap_or_else(|why| tracing::warn!(%why, "traces"));
    }
}

fn client(telemetry: &Telemetry) -> anyhow::Result<Client> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    for (name, value) in &telemetry.headers {
        let mut value = HeaderValue::try_from(value).context("telemetry.headers")?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name).context("telemetry.headers")?, value);
    }
    let mut builder = Client::builder()
        .default_headers(headers)
        .timeout(limits::OTLP_REQUEST_MAX)
        // A key goes where the configuration says and nowhere else.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    if let Some(path) = telemetry.ca_file() {
        let pem = std::fs::read(&path).with_context(|| format!("telemetry.ca_file {}", path.display()))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .with_context(|| format!("telemetry.ca_file {}: no certificate in PEM", path.display()))?;
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().context("telemetry")
}

/// Spans that are on their way, as bytes.
struct Held {
    body: Bytes,
    spans: u64,
}

/// What became of a request.
enum Sent {
    /// Taken, but for some.
    Taken { refused: u64 },
    /// Will not be taken, however often it is sent.
    Refused(String),
    /// May be taken later.
    Later { why: String, after: Option<Duration> },
}

struct Collector {
    client: Client,
    url: Url,
    resource: Resource,
    tracer: Tracer,
    /// What was not taken yet.
    held: Option<Held>,
    /// How long it is left alone; zero while it takes what comes.
    pause: Duration,
    /// Spans that the queue had dropped when it was last looked at.
    dropped: u64,
}

impl Collector {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            let wait = self.pause.max(limits::OTLP_EVERY);
            let is_over = tokio::time::timeout(wait, stopped.wait_for(|stop| *stop)).await.is_ok();
            if is_over {
                break;
            }
            tokio::select! {
                () = self.hand_over() => {}
                // A collector that does not answer is not waited for.
                _ = stopped.wait_for(|stop| *stop) => break,
            }
            self.count_dropped();
        }
        tokio::time::timeout(limits::OTLP_STOP_MAX, self.hand_over()).await.unwrap_or_else(|_| {
            tracing::warn!("the collector did not take the last traces in time");
        });
        let left = self.held.take().map_or(0, |held| held.spans) + self.tracer.take(usize::MAX).len() as u64;
        drop_for("stopped", left);
        self.count_dropped();
    }

    /// Sends whatever waits, until nothing does or the collector does not take it.
    async fn hand_over(&mut self) {
        loop {
            let held = match self.held.take() {
                Some(held) => held,
                None => match self.next() {
                    Some(held) => held,
                    None => return,
                },
            };
            let body = held.body.clone();
            let spans = held.spans;
            // Whoever gives up waiting for this finds it where it was.
            self.held = Some(held);
            match self.send(body).await {
                Sent::Taken { refused } => {
                    if !self.pause.is_zero() {
                        tracing::info!(collector = %self.url, "the collector takes traces again");
                    }
                    metrics::counter!("hilum_trace_spans_total").increment(spans.saturating_sub(refused));
                    drop_for("refused", refused);
                }
                Sent::Refused(why) => {
                    tracing::warn!(collector = %self.url, why, spans, "the collector refuses traces");
                    drop_for("refused", spans);
                }
                Sent::Later { why, after } => {
                    if self.pause.is_zero() {
                        tracing::warn!(collector = %self.url, why, "the collector does not take traces: they wait");
                    }
                    let (first, longest) = limits::OTLP_PAUSE;
                    self.pause = after.unwrap_or(self.pause * 2).clamp(first, longest);
                    return;
                }
            }
            (self.held, self.pause) = (None, Duration::ZERO);
        }
    }

    fn next(&self) -> Option<Held> {
        let spans = self.tracer.take(limits::OTLP_SPANS_MAX);
        let count = spans.len() as u64;
        (count > 0).then(|| Held { body: wire::request(&self.resource, spans).into(), spans: count })
    }

    async fn send(&self, body: Bytes) -> Sent {
        let answer = match self.client.post(self.url.clone()).body(body).send().await {
            Ok(answer) => answer,
            Err(why) => return Sent::Later { why: whole(&why), after: None },
        };
        let status = answer.status();
        let after = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
        if status.is_success() {
            return Sent::Taken { refused: refused(answer).await };
        }
        let why = format!("HTTP {}", status.as_u16());
        match status {
            // OTLP 1.x, "Failures": these alone may be tried again.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Sent::Later { why, after: after.map(Duration::from_secs) },
            _ => Sent::Refused(why),
        }
    }

    fn count_dropped(&mut self) {
        let dropped = self.tracer.dropped();
        drop_for("queue", dropped - self.dropped);
        self.dropped = dropped;
    }
}

fn drop_for(why: &'static str, spans: u64) {
    if spans > 0 {
        metrics::counter!("hilum_trace_spans_dropped_total", "why" => why).increment(spans);
    }
}

/// How many spans the collector says that it did not take; none where it says nothing that can be read.
async fn refused(mut answer: Response) -> u64 {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if body.len() + chunk.len() > limits::OTLP_ANSWER_BYTES_MAX {
            return 0;
        }
        body.extend_from_slice(&chunk);
    }
    let said = ExportTraceServiceResponse::decode(body.as_slice()).ok();
    let partial = said.and_then(|said| said.partial_success);
    partial.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0))
}

/// An error with what it comes from.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
