//! A house of many processes on this one machine, with a Kafka and a PostgreSQL of its own: what `demo --cluster` shows.
//! No part of serving. Every process ends with this one, however it ends.

mod engines;
mod guard;
mod part;
mod proxy;

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

pub use engines::{Engines, Size};
pub use guard::Guard;
pub use part::Part;
pub use proxy::{Behind, forward};

use crate::folder::Folder;
use crate::machine;

/// A folder that is removed with all that is in it. Other users may pass through, since PostgreSQL may run as one.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// Makes it; it must not be there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(path: PathBuf) -> anyhow::Result<Self> {
        let make = || {
            DirBuilder::new().mode(0o711).create(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711))
        };
        make().with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(fault) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %fault, "the folder stays");
        }
    }
}

/// Makes the secrets that all processes of an installation share, in `place`, and gives their folder.
///
/// # Errors
/// When they cannot be made.
pub fn secrets(place: &Place) -> anyhow::Result<PathBuf> {
    let folder = Folder::take(&place.path().join("installation"), "demo")?;
    let entropy = machine::entropy();
    folder.installation_key(&entropy)?;
    folder.session_key(&entropy)?;
    Ok(folder.path().join("secrets"))
}
