//! Carries plans out, and rolls back what fails.

use std::io;
use std::path::Path;

use tracing::{debug, info, warn};

use super::actual::Actual;
use super::journal::{Journal, JournalError};
use super::kernel::{ChangeError, Kernel, Made};
use super::plan::{Plan, Step};
use super::{Item, Owned};

/// The links of this terminal.
#[derive(Debug)]
pub struct Links {
    kernel: Kernel,
    journal: Journal,
}

/// The links are not as desired; what was changed for it has been undone.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// What is there could not be read.
    #[error("cannot read the kernel's links, addresses and routes: {0}")]
    Read(io::Error),
    /// The kernel refused a change.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// What is ours could not be recorded, so nothing was changed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Links {
    /// Links of the namespace that `kernel` is connected to, with their journal in `state_dir`.
    pub fn open(kernel: Kernel, state_dir: &Path) -> Result<Self, JournalError> {
        Ok(Self {
            kernel,
            journal: Journal::open(state_dir)?,
        })
    }

    /// What this terminal has made.
    #[must_use]
    pub fn owned(&self) -> &[Owned] {
        self.journal.owned()
    }

    /// What is there now.
    pub async fn read(&self) -> Result<Actual, ApplyError> {
        self.kernel
            .read(std::iter::empty())
            .await
            .map_err(ApplyError::Read)
    }

    /// What is there now, with everything that these items and ours are about.
    pub async fn read_about(&self, desired: &[Item]) -> Result<Actual, ApplyError> {
        let ours = self.journal.owned().iter().map(|own| &own.item);
        let about = desired.iter().chain(ours);
        self.kernel.read(about).await.map_err(ApplyError::Read)
    }

    /// Makes it so. How many changes that took.
    pub async fn apply(&mut self, desired: &[Item]) -> Result<usize, ApplyError> {
        let before = self.journal.owned().to_vec();
        let actual = self.read_about(desired).await?;
        let plan = Plan::diff(desired, &before, &actual);
        if !plan.absent.is_empty() {
            debug!(ports = ?plan.absent, "not there; doing without");
        }
        if plan.steps.is_empty() {
            self.journal.record(plan.owned)?;
            return Ok(0);
        }
        // Both what is ours and what will be: whichever of it exists when we are interrupted.
        let mut either = before.clone();
        either.extend(
            plan.owned
                .iter()
                .filter(|own| !before.contains(own))
                .cloned(),
        );
        self.journal.record(either)?;

        let mut owned = plan.owned.clone();
        let (mut done, mut changes) = (Vec::new(), 0);
        for step in &plan.steps {
            match self.step(step, &before, &mut owned).await {
                Ok(changed) => {
                    done.push(step);
                    changes += usize::from(changed);
                }
                Err(error) => {
                    self.roll_back(&done).await;
                    self.journal.record(before)?;
                    return Err(error.into());
                }
            }
        }
        self.journal.record(owned)?;
        if changes > 0 {
            info!(changes, "links changed");
        }
        Ok(changes)
    }

    /// Whether it has changed anything.
    async fn step(
        &self,
        step: &Step,
        before: &[Owned],
        owned: &mut Vec<Owned>,
    ) -> Result<bool, ChangeError> {
        debug!(?step, "link change");
        match step {
            Step::Undo(own) => self.kernel.undo(own).await.map(|()| true),
            Step::Make(own) => {
                let made = self.kernel.make(&own.item).await?;
                if made == Made::AlreadyThere && !before.contains(own) {
                    owned.retain(|other| other != own);
                }
                // What somebody has put in the place of ours is not ours to touch.
                Ok(made != Made::AlreadyThere)
            }
        }
    }

    /// Does the opposite of each step, the last one first; goes on past what fails.
    async fn roll_back(&self, done: &[&Step]) {
        for step in done.iter().rev() {
            let result = match step {
                Step::Make(own) => self.kernel.undo(own).await,
                Step::Undo(own) => self.kernel.make(&own.item).await.map(|_| ()),
            };
            if let Err(error) = result {
                warn!(%error, "rolling back a link change failed; the next change tries again");
            }
        }
    }
}
