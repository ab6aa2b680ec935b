//! The local way in: what `keys`, `users` and `import` ask of whoever holds the data folder.
//!
//! When a server holds it, the question goes through `DIR/admin.sock` (0600, same user); when nobody does, the
//! command opens the folder itself. One JSON object a line: one question, then any number of `progress`, then
//! `done` or `failed`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hilum_core::{Authority, Id, Role};
use hilum_fhir::r4::r4;
use hilum_records::export::Wanted;
use hilum_web::audit::{Action, Audit, AuditEvent, Durability};
use hilum_web::session::SessionSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::commands::{ConfigFile, DataFolder};
use crate::config::{Config, Overrides, ProcessRoles};
use crate::exchange;
use crate::folder::{Folder, Open};
use crate::house::House;

/// Bytes of one question or one line of an answer.
const LINE_BYTES_MAX: u64 = 8 << 20;
/// Questions at the same time.
const ASKED_AT_ONCE: usize = 16;

/// A question.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", deny_unknown_fields)]
pub enum Ask {
    /// Make an API key.
    #[serde(rename = "keys.add")]
    KeysAdd {
        /// Its name.
        name: String,
        /// Its role.
        role: Role,
    },
    /// All API keys.
    #[serde(rename = "keys.list")]
    KeysList,
    /// Revoke an API key.
    #[serde(rename = "keys.revoke")]
    KeysRevoke {
        /// Its name.
        name: String,
    },
    /// Make an account.
    #[serde(rename = "users.add")]
    UsersAdd {
        /// Its name.
        name: String,
        /// Its role.
        role: Role,
        /// Its password.
        password: Secret,
    },
    /// All accounts.
    #[serde(rename = "users.list")]
    UsersList,
    /// End an account, or let it in again.
    #[serde(rename = "users.disable")]
    UsersDisable {
        /// Its name.
        name: String,
        /// Whether it may not sign in.
        disabled: bool,
    },
    /// Give an account another password.
    #[serde(rename = "users.password")]
    UsersPassword {
        /// Its name.
        name: String,
        /// Its password.
        password: Secret,
    },
    /// What is wrong.
    #[serde(rename = "doctor")]
    Doctor,
    /// How a search is executed.
    #[serde(rename = "explain")]
    Explain {
        /// As it stands behind `/fhir/`.
        search: String,
    },
    /// Import HL7 v2 files.
    #[serde(rename = "import.hl7")]
    Import {
        /// Absolute paths of files and folders, readable by whoever holds the data folder.
        paths: Vec<PathBuf>,
        /// The source that they count for.
        source: Option<String>,
    },
    /// Import FHIR resources.
    #[serde(rename = "import.fhir")]
    ImportFhir {
        /// Absolute paths of files and folders, readable by whoever holds the data folder.
        paths: Vec<PathBuf>,
        /// Absolute path of the file that is given what is refused.
        rejected: Option<PathBuf>,
    },
    /// Export FHIR resources.
    #[serde(rename = "export.fhir")]
    ExportFhir(Wanted),
}

/// A password on its way: it does not print.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A line of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Progress(Value),
    Done(Value),
    Failed(String),
}

/// Where progress goes.
pub type Progress = mpsc::Sender<Value>;

impl Ask {
    /// What the audit log says of it: the command, and what it changes or tells; `None` where it does neither.
    fn audited(&self) -> Option<(&'static str, String)> {
        match self {
            Self::KeysAdd { name, role } => Some(("hilum keys add", format!("key={name} role={role}"))),
            Self::KeysRevoke { name } => Some(("hilum keys revoke", format!("key={name} revoked"))),
            Self::UsersAdd { name, role, .. } => {
                Some(("hilum users add", format!("account={name} role={role}")))
            }
            Self::UsersDisable { name, disabled } => {
                let state = if *disabled { "disabled" } else { "enabled" };
                Some(("hilum users disable", format!("account={name} {state}")))
            }
            Self::UsersPassword { name, .. } => {
                Some(("hilum users password", format!("account={name} password")))
            }
            Self::ImportFhir { paths, .. } => Some(("hilum import fhir", format!("paths={}", paths.len()))),
            Self::ExportFhir(wanted) => Some(("hilum export fhir", format!("types={}", wanted.types_said()))),
            // Its counts tell whether there is somebody of whom this holds; of whom it was asked is no text for a log.
            Self::Explain { search } => {
                let mut parts = search.split(['/', '?']);
                let of = parts.find_map(|part| r4().resource_types().find(|known| *known == part));
                Some(("hilum explain", format!("type={}", of.unwrap_or("several"))))
            }
            // What an import brings in stands in the log itself.
            Self::KeysList | Self::UsersList | Self::Doctor | Self::Import { .. } => None,
        }
    }
}

/// Answers a question, with the folder open; what it changed is in the audit log before the answer goes out.
async fn answer(house: &House, ask: Ask, uid: u32, progress: &Progress) -> anyhow::Result<Value> {
    let audited = ask.audited();
    let done = act(house, ask, progress).await;
    if let (Some((command, detail)), Ok(_)) = (audited, &done) {
        let secret = SessionSecret::new(house.folder.session_key(&house.entropy)?);
        let audit = Audit::start(house.audit.clone(), &secret, Durability::AtOnce);
        let event = AuditEvent {
            at: house.clock.now(),
            // Whoever may open the data folder: the user of the machine is all that is known.
            principal: format!("uid {uid}"),
            role: Some(Role::Admin),
            action: Action::Admin,
            route: command.to_owned(),
            patient: None,
            outcome: 200,
            detail,
            request: Id::from_bytes(house.entropy.bytes()),
        };
        let written = audit.record(event).await;
        if written.is_err() && house.config.audit.fails_closed {
            written.context("it is done, but could not be written to the audit log: see to the disk")?;
        }
    }
    done
}

/// Does what is asked.
async fn act(house: &House, ask: Ask, progress: &Progress) -> anyhow::Result<Value> {
    use hilum_web::{keys, users};
    let House { tables, clock, entropy, .. } = house;
    match ask {
        Ask::KeysAdd { name, role } => {
            let key = keys::add(tables, clock, entropy, &name, role)
                .await
                .with_context(|| format!("API key `{name}`"))?;
            Ok(json!({ "name": name, "role": role, "key": key }))
        }
        Ask::Explain { search } => {
            let (room, who) = (crate::running::records(house), Authority::system("explain"));
            let explained = hilum_records::fhir::explain(&room, &who, clock, &search).await;
            Ok(serde_json::to_value(explained.map_err(anyhow::Error::msg)?)?)
        }
        Ask::KeysList => {
            let keys = keys::list(tables).await?;
            let keys: Vec<Value> = keys
                .iter()
                .map(|key| {
                    json!({
                        "name": key.name, "role": key.role, "hint": key.hint,
                        "created": key.created.to_string(),
                        "revoked": key.revoked.map(|at| at.to_string()),
                        "used": key.used.map(|at| at.to_string()),
                    })
                })
                .collect();
            Ok(Value::Array(keys))
        }
        Ask::KeysRevoke { name } => {
            keys::revoke(tables, clock, &name).await.with_context(|| format!("API key `{name}`"))?;
            Ok(json!({ "name": name }))
        }
        Ask::UsersAdd { name, role, password } => {
            users::add(tables, clock, entropy, &name, role, Some(&password.0))
                .await
                .with_context(|| format!("account `{name}`"))?;
            Ok(json!({ "name": name, "role": role }))
        }
        Ask::UsersList => {
            let accounts = users::list(tables).await?;
            let accounts: Vec<Value> = accounts
                .iter()
                .map(|account| {
                    json!({
                        "name": account.name, "role": account.role, "disabled": account.disabled,
                        "created": account.created.to_string(), "changed": account.changed.to_string(),
                    })
                })
                .collect();
            Ok(Value::Array(accounts))
        }
        Ask::UsersDisable { name, disabled } => {
            users::set_disabled(tables, clock, &name, disabled)
                .await
                .with_context(|| format!("account `{name}`"))?;
            Ok(json!({ "name": name, "disabled": disabled }))
        }
        Ask::UsersPassword { name, password } => {
            users::set_password(tables, clock, entropy, &name, &password.0)
                .await
                .with_context(|| format!("account `{name}`"))?;
            Ok(json!({ "name": name }))
        }
        Ask::Doctor => Ok(serde_json::to_value(crate::commands::doctor::inside(house).await)?),
        Ask::Import { paths, source } => house.import(paths, source, progress).await,
        Ask::ImportFhir { paths, rejected } => exchange::import(house, paths, rejected, progress).await,
        Ask::ExportFhir(wanted) => exchange::export(house, &wanted, progress).await,
    }
}

/// The socket, opened in the folder; its file goes when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

/// A socket's path has at most 108 bytes: a longer one is reached through the folder's descriptor.
fn reachable(folder: &Path) -> std::io::Result<(PathBuf, Option<std::fs::File>)> {
    use std::os::fd::AsRawFd as _;
    let path = folder.join("admin.sock");
    if path.as_os_str().len() < 100 {
        return Ok((path, None));
    }
    let folder = std::fs::File::open(folder)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/admin.sock", folder.as_raw_fd())), Some(folder)))
}

impl Socket {
    /// Opens the socket of a folder that we hold.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(folder: &Folder) -> anyhow::Result<Self> {
        let path = folder.path().join("admin.sock");
        let (reach, _descriptor) = reachable(folder.path())?;
        // We hold the lock: what lies there is left over from a process that was killed.
        match std::fs::remove_file(&path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                return Err(why).with_context(|| format!("{} cannot be replaced", path.display()));
            }
            _ => {}
        }
        // What this process makes is its user's alone (umask), the folder too: nobody else is in time between the two.
        let listener =
            UnixListener::bind(&reach).with_context(|| format!("{} cannot be made", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers until `stop` is true, then finishes what was asked.
    pub async fn serve(self, house: Arc<House>, mut stop: watch::Receiver<bool>) {
        let mut asked = JoinSet::new();
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept(), if asked.len() < ASKED_AT_ONCE => accepted,
                Some(_) = asked.join_next() => continue,
                _ = stop.wait_for(|&stop| stop) => break,
            };
            let stream = match stream {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: it passes, and must not take a core until then.
                    tracing::warn!(%error, "admin socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let house = Arc::clone(&house);
            let mut stop = stop.clone();
            asked.spawn(async move {
                tokio::select! {
                    talked = converse(&house, stream) => {
                        if let Err(error) = talked {
                            tracing::debug!(%error, "admin socket");
                        }
                    }
                    // An import goes on where it was when it is asked again.
                    _ = stop.wait_for(|&stop| stop) => {}
                }
            });
        }
        while asked.join_next().await.is_some() {}
    }
}

async fn converse(house: &House, mut stream: UnixStream) -> anyhow::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let said = match serde_json::from_str::<Ask>(&line) {
        Ok(ask) => {
            let (progress, mut seen) = mpsc::channel(8);
            let work = answer(house, ask, uid, &progress);
            tokio::pin!(work);
            loop {
                tokio::select! {
                    answered = &mut work => break match answered {
                        Ok(done) => Said::Done(done),
                        Err(error) => Said::Failed(format!("{error:#}")),
                    },
                    Some(step) = seen.recv() => say(&mut write, &Said::Progress(step)).await?,
                }
            }
        }
        Err(_) => Said::Failed("question not understood: is the server of another version?".to_owned()),
    };
    say(&mut write, &said).await
}

async fn say(write: &mut (impl tokio::io::AsyncWrite + Unpin), said: &Said) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    Ok(())
}

async fn ask_server(
    folder: &Path,
    who: &str,
    ask: &Ask,
    mut show: impl FnMut(&Value),
) -> anyhow::Result<Value> {
    let (reach, _descriptor) = reachable(folder)?;
    let mut stream = UnixStream::connect(&reach).await.with_context(|| {
        format!(
            "data folder {} is in use by {who}, which does not answer on admin.sock: try again when it has \
             started or ended",
            folder.display()
        )
    })?;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        (&mut lines).take(LINE_BYTES_MAX).read_line(&mut line).await?;
        if line.is_empty() {
            bail!("{who} stopped before it had answered: ask again");
        }
        match serde_json::from_str(&line)
            .context("answer not understood: is the server of another version?")?
        {
            Said::Progress(step) => show(&step),
            Said::Done(done) => return Ok(done),
            Said::Failed(why) => bail!("{why}"),
        }
    }
}

/// Asks whoever holds the folder, or does it here when nobody does. `show` is told of progress.
///
/// # Errors
/// What went wrong, there or here.
pub fn ask(
    data: &DataFolder,
    config: &ConfigFile,
    command: &str,
    ask: Ask,
    mut show: impl FnMut(&Value),
) -> anyhow::Result<Value> {
    if !data.path.is_dir() {
        bail!(
            "data folder {} is not there: `hilum serve --data {}` makes it",
            data.path.display(),
            data.path.display()
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match Folder::open(&data.path, command)? {
            Open::Held { who } => ask_server(&data.path, &who, &ask, show).await,
            Open::Ours(folder) => {
                // Whatever the server of this folder is there for: a command needs all of it.
                let config = Config { roles: ProcessRoles::ALL, ..config.load(&Overrides::default())? };
                let house = House::open(folder, config).await?;
                let (progress, mut seen) = mpsc::channel(8);
                let uid = rustix::process::geteuid().as_raw();
                let work = answer(&house, ask, uid, &progress);
                tokio::pin!(work);
                let answered = loop {
                    tokio::select! {
                        answered = &mut work => break answered,
                        Some(step) = seen.recv() => show(&step),
                    }
                };
                house.close().await;
                answered
            }
        }
    })
}
