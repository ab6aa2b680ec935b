//! Processes that share their tables tell each other that they are there: every two seconds each writes its row, reads
//! those of the others, and takes over what they say of their partitions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hilum_chart::Presence;
use hilum_chart::limits::PROCESS_SAYS;
use hilum_chart::presence::{Process, Twins};
use hilum_core::{Entropy, Timestamp};
use hilum_engines::tables::TablesError;
use tokio::sync::watch;

use crate::config::ProcessRole;
use crate::house::House;
use crate::machine;
use crate::watch::Watch;

/// Until the next sign of life: not quite the same each time, or two processes of one id may go on in step, and one of them
/// find its own row whenever it looks.
fn pause(entropy: &Entropy) -> Duration {
    let [any]: [u8; 1] = entropy.bytes();
    PROCESS_SAYS.mul_f64(0.8 + f64::from(any) / 640.0)
}

/// A process among others.
pub struct Company {
    house: Arc<House>,
    watch: Arc<Watch>,
    presence: Arc<Presence>,
    http: SocketAddr,
    mllp: Option<SocketAddr>,
    started: Timestamp,
    /// Whether what this process knew before it was started anew was taken up.
    remembers: bool,
    twins: Twins,
    /// Hears why this process must end.
    refused: watch::Sender<Option<String>>,
}

impl Company {
    /// Of a process whose doors are at these addresses; `None` where it is alone with its tables.
    pub fn new(
        house: &Arc<House>,
        watch: &Arc<Watch>,
        http: SocketAddr,
        mllp: Option<SocketAddr>,
        refused: watch::Sender<Option<String>>,
    ) -> Option<Self> {
        let presence = Arc::clone(watch.gateways.presence()?);
        let (started, remembers) = (house.clock.now(), false);
        let (house, watch) = (Arc::clone(house), Arc::clone(watch));
        let twins = Twins::default();
        Some(Self { house, watch, presence, http, mllp, started, remembers, twins, refused })
    }

    /// Says and hears until `stop` is true, then takes its row along, unless that is another's too.
    pub async fn keep(mut self, mut stop: watch::Receiver<bool>) {
        let meeting = async {
            loop {
                if let Err(error) = self.meet().await {
                    tracing::debug!(%error, "no sign of life given");
                }
                tokio::time::sleep(pause(&self.house.entropy)).await;
            }
        };
        tokio::select! {
            () = meeting => {}
            _ = stop.wait_for(|&stop| stop) => {}
        }
        // Tables that do not answer are not waited for: the row is then seen to grow old.
        if self.watch.seen().tables_down.is_some() || self.watch.twin().is_some() {
            return;
        }
        let left = tokio::time::timeout(PROCESS_SAYS, self.presence.leave()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::debug!("the row of this process stays behind");
        }
    }

    async fn meet(&mut self) -> Result<(), TablesError> {
        let gateways = &self.watch.gateways;
        let before = self.presence.look().await?;
        let own = before.processes.iter().find(|process| process.id == self.presence.own());
        if !self.remembers {
            if let Some(own) = own.filter(|_| self.house.config.roles.has(ProcessRole::Gateway)) {
                gateways.remember(own);
            }
            self.remembers = true;
        }
        let twin = self.twins.look(own, self.started);
        let must_end = twin.as_ref().is_some_and(|twin| twin.was_first);
        self.watch.set_twin(twin.map(|twin| twin.process));
        if must_end {
            self.refused.send_replace(self.watch.twin());
            return Ok(());
        }
        let now = self.house.clock.now();
        let process = Process {
            id: self.presence.own(),
            host: machine::host(),
            roles: self.house.config.roles.to_string(),
            http: Some(self.http.to_string()),
            mllp: self.mllp.map(|address| address.to_string()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            seen: now,
            heard: now,
            first_seen: now,
            partitions: Presence::at_work(&self.watch.progress),
            doors: gateways.own_report(now),
        };
        self.presence.say(&process).await?;
        let seen = self.presence.look().await?;
        self.watch.progress.hear(&seen, now);
        Ok(())
    }
}
