//! `hilum demo`: the main job on this machine, with a simulated hospital that speaks to the real MLLP port.

mod cluster;

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use hilum_core::{Clock, Entropy, Role};
use hilum_engines::tables::Tables;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::{Config, LogFormat};
use crate::folder::Folder;

use crate::generate::hospital::{Hospital, Sent};
use crate::house::House;
use crate::running::Running;
use crate::{logging, machine, metrics, out};

/// The account that the link signs in.
const ACCOUNT: &str = "demo";
/// A step that failed is tried again so often: the server answers, the simulated hospital waits, as a real one does.
const RETRY: Duration = Duration::from_secs(1);
/// A sender that is not answered in this time connects anew.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// `hilum demo`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hilum demo\n  \
                        hilum demo --pace 0.2 --patients 300      a busy house\n  \
                        hilum demo --data ./demo                  a folder that stays\n  \
                        hilum demo --cluster                      many processes, Kafka and PostgreSQL")]
pub struct Arguments {
    /// A new data folder that stays; without it a temporary one is used and removed at the end
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Seconds between two events of the simulated hospital
    #[arg(long, value_name = "SECONDS", default_value_t = 1.5, value_parser = pace)]
    pace: f64,
    /// Patients who are in the house when it begins
    #[arg(long, default_value_t = 120)]
    patients: usize,
    /// Seed of the simulated hospital: the same seed lives the same life
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Address of the pages; without it 127.0.0.1:8080, or a free port when that one is taken
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Three brokers, PostgreSQL and seven processes of this program instead of one; `make tools` installs what it takes
    #[arg(long, conflicts_with = "data")]
    cluster: bool,
    /// Do not open a browser
    #[arg(long)]
    no_browser: bool,
}

fn pace(raw: &str) -> Result<f64, String> {
    match raw.parse::<f64>() {
        Ok(seconds) if (0.01..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("take seconds from 0.01 to 3600".to_owned()),
    }
}

/// Removes the folder when the demonstration ends.
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(fault) = std::fs::remove_dir_all(path)
        {
            tracing::warn!(folder = %path.display(), %fault, "the demonstration's folder stays");
        }
    }
}

/// Runs the demonstration until Ctrl-C.
///
/// # Errors
/// What could not be opened, by name.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let http = arguments.http.clone().unwrap_or_else(|| free_or_usual(&Config::default().http.listen));
    let mllp = free_or_usual(&Config::default().mllp.listen);
    let mut config = Config::default();
    config.logging.format = LogFormat::Human;
    "warn".clone_into(&mut config.logging.level);
    logging::start(&config.logging)?;
    machine::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if arguments.cluster {
        runtime.block_on(cluster::live(arguments, &http, &mllp))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (path, temporary) = if let Some(path) = &arguments.data {
        if path.join("log.sqlite").exists() {
            bail!("{} holds data already: the demonstration begins with a new folder", path.display());
        }
        (path.clone(), Temporary(None))
    } else {
        let path = std::env::temp_dir().join(format!("hilum-demo-{}", std::process::id()));
        (path.clone(), Temporary(Some(path)))
    };
    "Asia/Seoul".clone_into(&mut config.http.zone);
    (config.http.listen, config.mllp.listen) = (http, mllp);
    let folder = Folder::take(&path, "demo")?;
    runtime.block_on(live(folder, config, arguments))?;
    drop(temporary);
    Ok(ExitCode::SUCCESS)
}

/// The usual address, or any when somebody has it.
fn free_or_usual(usual: &str) -> String {
    match std::net::TcpListener::bind(usual) {
        Ok(_) => usual.to_owned(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}

/// A command that sends one message of an invented patient to the MLLP door, for a shell that has nothing but itself.
fn example(mllp: SocketAddr, now: hilum_core::Timestamp) -> String {
    let at = now.to_jiff().strftime("%Y%m%d%H%M%S+0000");
    let message = [
        &format!("MSH|^~\\\\&|ME|ME|HILUM|HILUM|{at}||ADT^A01|MINE-1|P|2.5||||||UNICODE UTF-8"),
        "PID|1||4711^^^ME^MR||Example^Eve||19800101|F",
        "PV1|1|I|MINE^1^1||||||||||||||||V4711",
    ]
    .join("\\r");
    let (host, port) = (mllp.ip(), mllp.port());
    format!(
        "bash -c \"exec 3<>/dev/tcp/{host}/{port}; printf '\\v{message}\\r\\034\\r' >&3; \\\n          \
         timeout 1 cat <&3 | tr '\\r' '\\n'\""
    )
}

async fn live(folder: Folder, config: Config, arguments: &Arguments) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let house = Arc::new(House::open(folder, config).await?);
    let running = Running::start(Arc::clone(&house), metrics::start()?, hilum_web::shell::Mode::Demo).await?;
    let mllp = running.mllp.context("the demonstration has an MLLP door")?;
    hilum_web::users::add(&house.tables, &house.clock, &house.entropy, ACCOUNT, Role::Admin, None).await?;
    let link = new_link(&house.tables, &house.clock, &house.entropy, running.http).await?;
    out::line("");
    out::line("  hilum · a simulated hospital, live");
    out::line("");
    out::line(&format!("  Open    {link}"));
    out::line("          (signs in once; press Enter here for another link)");
    out::line(&format!("  MLLP    {mllp}     send it HL7 v2 of your own:"));
    out::line(&format!("          {}", example(mllp, house.clock.now())));
    out::line(&format!("  Data    {}", house.folder.path().display()));
    out::line("  Ctrl-C ends it. Every patient is invented.");
    out::line("");
    if !arguments.no_browser {
        open_browser(&link);
    }
    let mut hospital = Hospital::new(arguments.seed, "HILUM");
    let (pace, patients) = (Duration::from_secs_f64(arguments.pace), arguments.patients);
    let clock = house.clock.clone();
    let feed = async { speak(&mut hospital, mllp, &clock, pace, patients).await };
    let mut enter = lines_of_standard_input();
    tokio::pin!(feed);
    loop {
        tokio::select! {
            () = &mut feed => {}
            Some(()) = enter.recv() => {
                let link = new_link(&house.tables, &house.clock, &house.entropy, running.http).await?;
                out::line(&format!("  Open    {link}"));
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    out::line("");
    out::line("  Ending: what was accepted is finished.");
    let drain = Duration::from_secs(house.config.shutdown.drain_s);
    running.stop(drain).await;
    house.close().await;
    Ok(())
}

async fn new_link(
    tables: &Tables,
    clock: &Clock,
    entropy: &Entropy,
    http: SocketAddr,
) -> anyhow::Result<String> {
    let token = hilum_web::session::link(tables, clock, entropy, ACCOUNT).await?;
    Ok(format!("http://{http}/sign-in/link/{token}"))
}

/// A message for each line that is entered. The thread ends with the process.
fn lines_of_standard_input() -> mpsc::Receiver<()> {
    let (tell, told) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_err() || tell.blocking_send(()).is_err() {
                return;
            }
        }
    });
    told
}

/// Opens the link where there is somebody to look.
fn open_browser(link: &str) {
    let is_desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| machine::variable(name).is_some());
    if !is_desktop {
        return;
    }
    let opened = Command::new("xdg-open")
        .arg(link)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(fault) = opened {
        tracing::debug!(%fault, "no browser was opened");
    }
}

/// The simulated hospital: fills its beds, then lives. Never returns; a closed connection is opened again and what
/// was not answered is sent again, as a real sender does.
async fn speak(hospital: &mut Hospital, mllp: SocketAddr, clock: &Clock, pace: Duration, patients: usize) {
    let mut connection = Sender { mllp, stream: None };
    for sent in hospital.fill(clock.now(), patients) {
        connection.deliver(&sent).await;
    }
    out::line(&format!("  {patients} patients came in before you. Now it lives:"));
    loop {
        tokio::time::sleep(pace).await;
        for sent in hospital.step(clock.now()) {
            let code = connection.deliver(&sent).await;
            out::line(&format!(
                "  {}  {} → {code}",
                clock.now().to_jiff().strftime("%H:%M:%S UTC"),
                sent.what
            ));
        }
    }
}

struct Sender {
    mllp: SocketAddr,
    stream: Option<TcpStream>,
}

impl Sender {
    /// Sends until it is answered, and gives the acknowledgment code.
    async fn deliver(&mut self, sent: &Sent) -> String {
        loop {
            let answer = tokio::time::timeout(ANSWER_PATIENCE, self.try_deliver(sent)).await;
            match answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time"))) {
                Ok(code) => return code,
                Err(fault) => {
                    tracing::warn!(%fault, "the simulated hospital was not answered and tries again");
                    self.stream = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_deliver(&mut self, sent: &Sent) -> anyhow::Result<String> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty => empty.insert(TcpStream::connect(self.mllp).await?),
        };
        let frame = [&[0x0B], sent.bytes.as_slice(), &[0x1C, b'\r']].concat();
        stream.write_all(&frame).await?;
        let mut answer = Vec::with_capacity(512);
        while !answer.ends_with(b"\x1C\r") {
            if answer.len() > ANSWER_BYTES_MAX || stream.read_buf(&mut answer).await? == 0 {
                bail!("no whole answer");
            }
        }
        let text = String::from_utf8_lossy(&answer);
        let code = text
            .split('\r')
            .find_map(|segment| segment.strip_prefix("MSA|"))
            .and_then(|msa| msa.split('|').next());
        Ok(code.unwrap_or("no MSA").to_owned())
    }
}
