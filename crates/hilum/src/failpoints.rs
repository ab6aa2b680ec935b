//! Crash tests' plan: `HILUM_FAILPOINT=append:3` ends the process at once, as kill -9 does, when the place `append` is
//! hit for the third time. Only in debug builds and with the feature `failpoints`.

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod on {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use anyhow::{Context as _, bail};
    use hilum_core::failpoint;

    struct Plan {
        name: &'static str,
        count: u64,
        hits: AtomicU64,
    }

    static PLAN: OnceLock<Plan> = OnceLock::new();

    fn handle(name: &'static str) {
        let Some(plan) = PLAN.get() else { return };
        if plan.name == name && plan.hits.fetch_add(1, Ordering::Relaxed) + 1 == plan.count {
            crate::machine::complain(&format!("failpoint {name} fired"));
            // Neither destructors nor buffers: what is not on disk now is lost.
            std::process::abort();
        }
    }

    /// Installs the plan that the environment names.
    pub fn install(plan: &str) -> anyhow::Result<()> {
        let (name, count) = plan.split_once(':').unwrap_or((plan, "1"));
        let Some(name) = failpoint::NAMES.iter().find(|known| **known == name) else {
            bail!("HILUM_FAILPOINT: no place `{name}`; there are {}", failpoint::NAMES.join(", "));
        };
        let count = count.parse().with_context(|| format!("HILUM_FAILPOINT: `{count}` is no number"))?;
        PLAN.get_or_init(|| Plan { name, count, hits: AtomicU64::new(0) });
        failpoint::install(handle);
        Ok(())
    }
}

/// Installs the plan that `HILUM_FAILPOINT` names, if it names one.
///
/// # Errors
/// When the plan cannot be read, or this build has no failpoints.
pub fn install(plan: Option<&str>) -> anyhow::Result<()> {
    let Some(plan) = plan else { return Ok(()) };
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    {
        on::install(plan)
    }
    #[cfg(not(any(debug_assertions, feature = "failpoints")))]
    {
        anyhow::bail!("HILUM_FAILPOINT={plan}: this build has no failpoints (cargo feature `failpoints`)")
    }
}
