//! Looks after the processes, as a service manager does: what ended is started again some seconds later.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Behind, Engines, Part};
use crate::out;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(500);

/// Holds engines and processes, and ends them when it is told to, or goes out of scope.
#[derive(Debug)]
pub struct Guard {
    told: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// Looks after them from now on. `mllp` and `http` are told which doors are open.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(engines: Engines, parts: Vec<Part>, mllp: Behind, http: Behind) -> anyhow::Result<Self> {
        let (told, stop) = channel();
        let mut house = Watched { engines, parts, mllp, http };
        let thread = std::thread::Builder::new().name("guard".to_owned()).spawn(move || house.run(&stop))?;
        Ok(Self { told: Some(told), thread: Some(thread) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.told.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the guard of the processes ended early");
        }
    }
}

struct Watched {
    engines: Engines,
    parts: Vec<Part>,
    mllp: Behind,
    http: Behind,
}

impl Watched {
    fn run(&mut self, stop: &Receiver<()>) {
        self.tell();
        while stop.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            let say = |what: &str| out::line(&format!("  !         {what}"));
            // What the parts stand on first.
            self.engines.look(&say);
            for part in &mut self.parts {
                part.look(&say);
            }
            self.tell();
        }
        // All at once: each finishes what it accepted while the engines still run.
        for part in &self.parts {
            part.ask_to_stop();
        }
        for part in self.parts.drain(..) {
            part.stop();
        }
    }

    fn tell(&self) {
        let open = |part: &Part| Some((part.name.clone(), part.doors()?));
        let doors: Vec<_> = self.parts.iter().filter_map(open).collect();
        let of = doors.iter().filter(|(name, _)| name.starts_with("gateway"));
        self.mllp.are(of.filter_map(|(_, doors)| doors.mllp).collect());
        let of = doors.iter().filter(|(name, _)| name.starts_with("reader"));
        self.http.are(of.map(|(_, doors)| doors.http).collect());
    }
}
