//! The data folder: who holds it, and its secrets.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use hilum_core::{Entropy, Id, InstallationKey};

/// A data folder that this process holds alone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Who holds it: `hilum serve, pid 123`.
    who: String,
    /// Locked for as long as it is open.
    _lock: File,
}

/// Why a folder was not opened.
#[derive(Debug)]
pub enum Open {
    /// Ours now.
    Ours(Folder),
    /// Another process holds it; `who` as it wrote itself down (`hilum serve, pid 123`).
    Held {
        /// Who holds it.
        who: String,
    },
}

const LOCK: &str = "lock";
const SECRETS: &str = "secrets";
const INSTALLATION_KEY: &str = "installation.key";
const SESSION_KEY: &str = "session.key";
/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;
/// Bytes of a setting's file: a certificate with its chain and key.
const SETTING_BYTES_MAX: u64 = 64 << 10;

impl Folder {
    /// Takes the folder for `command`, making it (0700) when it is not there.
    ///
    /// # Errors
    /// When it cannot be made, or is not a folder that we may write.
    pub fn open(path: &Path, command: &str) -> anyhow::Result<Open> {
        // Rows, messages, import states and sockets: all that is made from now on is this user's alone.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        if !path.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .with_context(|| format!("data folder {} cannot be made", path.display()))?;
        }
        let path = path.canonicalize().with_context(|| format!("data folder {}", path.display()))?;
        let lock_path = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .with_context(|| format!("{} cannot be opened for writing", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut who = String::new();
                lock.read_to_string(&mut who).ok();
                let who = if who.trim().is_empty() { "another process" } else { who.trim() };
                return Ok(Open::Held { who: who.to_owned() });
            }
            Err(TryLockError::Error(why)) => {
                return Err(why).with_context(|| format!("{} cannot be locked", lock_path.display()));
            }
        }
        lock.set_len(0)?;
        lock.rewind()?;
        let who = format!("hilum {command}, pid {}", std::process::id());
        lock.write_all(who.as_bytes())?;
        Ok(Open::Ours(Self { path, who, _lock: lock }))
    }

    /// As [`Folder::open`], but another holder is an error that names it.
    ///
    /// # Errors
    /// As [`Folder::open`], and when another process holds the folder.
    pub fn take(path: &Path, command: &str) -> anyhow::Result<Self> {
        match Self::open(path, command)? {
            Open::Ours(folder) => Ok(folder),
            Open::Held { who } => {
                bail!(
                    "data folder {} is in use by {who}: stop it first, or take another --data",
                    path.display()
                )
            }
        }
    }

    /// Says by name what of the folder others may read.
    pub fn warn_of_others(&self) {
        for (place, mode) in open_to_others(&self.path) {
            tracing::warn!(
                place = %place.display(),
                mode = format!("{mode:o}"),
                "others may read it: run chmod -R go= on the data folder"
            );
        }
    }

    /// Who holds it, as others are told.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The installation's key, made at the first start. Every id of the chart is a function of it: it belongs into
    /// backups.
    ///
    /// # Errors
    /// When the file cannot be read or made, has another size, or others may read it.
    pub fn installation_key(&self, entropy: &Entropy) -> anyhow::Result<InstallationKey> {
        self.secret(INSTALLATION_KEY, || entropy.bytes()).map(InstallationKey::new)
    }

    /// The bytes of the installation's key, for an archive.
    ///
    /// # Errors
    /// As [`Folder::installation_key`].
    pub fn installation_key_bytes(&self, entropy: &Entropy) -> anyhow::Result<[u8; SECRET_BYTES]> {
        self.secret(INSTALLATION_KEY, || entropy.bytes())
    }

    /// Makes `key` the installation's key of a folder that has none.
    ///
    /// # Errors
    /// When there is another one, or it cannot be written.
    pub fn adopt_installation_key(&self, key: [u8; SECRET_BYTES]) -> anyhow::Result<()> {
        if self.secret(INSTALLATION_KEY, || key)? != key {
            bail!("data folder {} holds another installation: take an empty --data", self.path.display());
        }
        Ok(())
    }

    /// The key that signs sessions, made at the first start.
    ///
    /// # Errors
    /// As [`Folder::installation_key`].
    pub fn session_key(&self, entropy: &Entropy) -> anyhow::Result<[u8; SECRET_BYTES]> {
        self.secret(SESSION_KEY, || entropy.bytes())
    }

    /// The name of this process among others of its installation: made at the first start, the same at the next.
    ///
    /// # Errors
    /// When the file cannot be read or made, or holds something else.
    pub fn process_id(&self, entropy: &Entropy) -> anyhow::Result<Id> {
        let path = self.path.join("process.id");
        match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                anyhow::anyhow!("{} holds no id: delete it, and another is made", path.display())
            }),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                let id = Id::from_bytes(entropy.bytes());
                std::fs::write(&path, id.to_string())
                    .with_context(|| format!("{} cannot be made", path.display()))?;
                Ok(id)
            }
            Err(why) => Err(why).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// Settings that stand in files of their own among the secrets, by the names of their keys: `log.…`. A line's end
    /// behind the value is not part of it.
    ///
    /// # Errors
    /// When one cannot be read, is too large or no text, or others may read it.
    pub fn settings(&self) -> anyhow::Result<Vec<(String, String)>> {
        settings(&self.path)
    }

    fn secret(
        &self,
        name: &str,
        make: impl FnOnce() -> [u8; SECRET_BYTES],
    ) -> anyhow::Result<[u8; SECRET_BYTES]> {
        let folder = self.path.join(SECRETS);
        if !folder.is_dir() {
            DirBuilder::new()
                .mode(0o700)
                .create(&folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        let path = folder.join(name);
        match File::open(&path) {
            Ok(mut file) => {
                let mode = file.metadata()?.permissions().mode();
                if mode & 0o077 != 0 {
                    bail!("{} may be read by others: chmod 600 it", path.display());
                }
                let mut secret = [0; SECRET_BYTES];
                file.read_exact(&mut secret).with_context(|| {
                    format!(
                        "{} is shorter than {SECRET_BYTES} bytes: restore it from the backup",
                        path.display()
                    )
                })?;
                Ok(secret)
            }
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                let secret = make();
                // Whole or not at all: a key that was half written would orphan every id made with it.
                let temporary = folder.join(format!("{name}.new"));
                let made = || -> std::io::Result<()> {
                    let mut file = OpenOptions::new()
                        .write(true)
                        .create(true)
                        .truncate(true)
                        .mode(0o600)
                        .open(&temporary)?;
                    file.write_all(&secret)?;
                    file.sync_all()?;
                    std::fs::rename(&temporary, &path)?;
                    File::open(&folder)?.sync_all()?;
                    File::open(&self.path)?.sync_all()
                };
                made().with_context(|| format!("{} cannot be made", path.display()))?;
                Ok(secret)
            }
            Err(why) => Err(why).with_context(|| format!("{} cannot be read", path.display())),
        }
    }
}

/// Who holds a folder, without taking it; `None` = nobody.
///
/// # Errors
/// When its lock cannot be read.
pub fn holder(path: &Path) -> anyhow::Result<Option<String>> {
    let lock_path = path.join(LOCK);
    let mut lock = match File::open(&lock_path) {
        Ok(lock) => lock,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why).with_context(|| format!("{} cannot be read", lock_path.display())),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let mut who = String::new();
            lock.read_to_string(&mut who).ok();
            Ok(Some(who.trim().to_owned()))
        }
        Err(TryLockError::Error(why)) => Err(why).with_context(|| format!("{}", lock_path.display())),
    }
}

/// Settings that stand in files of their own in `path`'s `secrets`, whoever holds the folder.
///
/// # Errors
/// As [`Folder::settings`].
pub fn settings(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut settings = Vec::new();
    for file in setting_files(&path.join(SECRETS)) {
        let shown = file.display();
        let metadata = file.metadata().with_context(|| format!("{shown} cannot be read"))?;
        if metadata.mode() & 0o077 != 0 {
            bail!("{shown} may be read by others: chmod 600 it");
        }
        if metadata.len() > SETTING_BYTES_MAX {
            bail!("{shown} has more than {SETTING_BYTES_MAX} bytes");
        }
        let value = std::fs::read_to_string(&file).with_context(|| format!("{shown} cannot be read"))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        settings.push((name, value.trim_end_matches(['\r', '\n']).to_owned()));
    }
    Ok(settings)
}

/// Files among the secrets that are settings, in the order of their names.
fn setting_files(secrets: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(secrets).into_iter().flatten().flatten();
    let is_setting = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("log.") || name.starts_with("telemetry.")
    };
    let mut paths: Vec<PathBuf> = entries.filter(is_setting).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// What `doctor` finds about files that should be ours alone: `(path, mode)` of each that others may read.
pub fn open_to_others(path: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    let secrets = path.join(SECRETS);
    let is_open = |place: &Path| place.metadata().is_ok_and(|metadata| metadata.mode() & 0o077 != 0);
    let mut places =
        vec![path.to_owned(), secrets.clone(), secrets.join(INSTALLATION_KEY), secrets.join(SESSION_KEY)];
    places.extend(setting_files(&secrets));
    // Files in a folder that nobody else may enter are out of reach whatever their own mode says.
    if is_open(path) {
        places.extend(["log.sqlite", "tables.sqlite", "audit.sqlite", "import"].map(|name| path.join(name)));
    }
    for place in places {
        if let Ok(metadata) = place.metadata()
            && is_open(&place)
        {
            found.push((place, metadata.mode() & 0o777));
        }
    }
    found
}

/// What `doctor` finds about the keys of a folder that was in use: `(path, why)` of each that cannot be read, and whether
/// a start makes it anew.
pub fn keys_unread(path: &Path) -> Vec<(PathBuf, String, bool)> {
    let secrets = path.join(SECRETS);
    if !secrets.is_dir() {
        return Vec::new();
    }
    let look = |name: &str| -> Option<(PathBuf, String, bool)> {
        let key = secrets.join(name);
        match File::open(&key).and_then(|mut file| file.read_exact(&mut [0; SECRET_BYTES])) {
            Ok(()) => None,
            Err(why) => {
                let is_made_anew = why.kind() == std::io::ErrorKind::NotFound && name != INSTALLATION_KEY;
                Some((key, why.to_string(), is_made_anew))
            }
        }
    };
    [INSTALLATION_KEY, SESSION_KEY].into_iter().filter_map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_by_name() {
        let place = tempfile::tempdir().expect("a folder");
        let held = Folder::take(place.path(), "serve").expect("free");
        let error = Folder::take(place.path(), "rebuild").expect_err("held").to_string();
        assert!(error.contains(&format!("in use by hilum serve, pid {}", std::process::id())), "{error}");
        drop(held);
        Folder::take(place.path(), "rebuild").expect("free again");
    }

    #[test]
    fn settings_stand_in_files_that_nobody_else_reads() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::take(&parent.path().join("data"), "a test").unwrap();
        assert!(folder.settings().unwrap().is_empty());
        folder.session_key(&Entropy::seeded(1)).unwrap();
        let file = folder.path().join("secrets/log.client.sasl.password");
        std::fs::write(&file, " ge heim\r\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let want = ("log.client.sasl.password".to_owned(), " ge heim".to_owned());
        assert_eq!(folder.settings().unwrap(), [want]);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(open_to_others(folder.path()).iter().any(|(path, _)| *path == file));
        let refused = folder.settings().unwrap_err().to_string();
        assert!(refused.contains("chmod 600") && !refused.contains("heim"), "{refused}");
    }

    #[test]
    fn secrets_are_made_once_and_kept_to_ourselves() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::take(&place.path().join("new"), "serve").expect("made");
        let entropy = Entropy::seeded(1);
        let first = folder.session_key(&entropy).expect("made");
        assert_eq!(first, folder.session_key(&entropy).expect("read"), "the same at the second start");
        folder.installation_key(&entropy).expect("made");
        assert_eq!(open_to_others(folder.path()), []);
        let unread = || {
            let unread = keys_unread(folder.path()).into_iter();
            unread.map(|(key, _, anew)| (key.file_name().unwrap().to_owned(), anew)).collect::<Vec<_>>()
        };
        assert_eq!(unread(), []);
        let key = folder.path().join("secrets/session.key");
        std::fs::write(&key, "short").unwrap();
        assert_eq!(unread(), [(SESSION_KEY.into(), false)], "too short");
        std::fs::remove_file(&key).unwrap();
        assert_eq!(unread(), [(SESSION_KEY.into(), true)]);
        std::fs::remove_file(folder.path().join("secrets/installation.key")).unwrap();
        let both = [(INSTALLATION_KEY.into(), false), (SESSION_KEY.into(), true)];
        assert_eq!(unread(), both, "ids are made with the one, and nobody else has it");
        folder.session_key(&entropy).expect("made anew");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(folder.session_key(&entropy).is_err(), "others may read it");
        assert_eq!(open_to_others(folder.path()), [(key, 0o644)]);
    }
}
