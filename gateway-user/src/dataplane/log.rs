//! Log lines of the programs themselves.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::debug;

/// The programs' log, read by [`ProgramLog::run`].
pub(super) struct ProgramLog {
    logger: AsyncFd<EbpfLogger<&'static dyn ::log::Log>>,
}

impl ProgramLog {
    /// None if the object has no log, because it was built without log lines.
    pub(super) fn open(ebpf: &mut Ebpf) -> Option<Self> {
        let logger = EbpfLogger::init(ebpf)
            .inspect_err(|error| debug!(%error, "the programs have no log"))
            .ok()?;
        // SAFETY: the logger owns its descriptor, keeps it for its whole life, and names no other.
        let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
            .inspect_err(|error| debug!(%error, "the programs' log cannot be followed"))
            .ok()?;
        Some(Self { logger })
    }

    /// Carries the lines to the `log` crate, which `tracing-subscriber` listens to.
    pub(super) async fn run(mut self) {
        while let Ok(mut guard) = self.logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    }
}
