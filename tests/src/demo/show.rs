//! What the demonstration tells the person who watches.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Report;

/// Prints each step with its time.
pub struct Show {
    start: Instant,
}

impl Show {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    fn line(&self, text: &str) {
        // A closed pipe is no reason to stop.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// Something has happened.
    pub fn step(&self, text: &str) {
        self.line(&format!(
            "{:8.3} s  {text}",
            self.start.elapsed().as_secs_f64()
        ));
    }

    /// More about the last step.
    pub fn more(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("            {line}"));
        }
    }

    /// A bar for that many bytes; on a terminal only.
    pub fn bytes(&self, total: u64) -> ProgressBar {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template(
            "            {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}",
        );
        let bar = ProgressBar::with_draw_target(Some(total), target);
        style
            .map(|style| bar.clone().with_style(style))
            .unwrap_or(bar)
    }

    pub fn fail(&self, error: &anyhow::Error) {
        self.step("it failed");
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
    }

    pub fn end(&self, report: &Report) {
        self.step("done, and all put back as it was");
        self.line("");
        for (name, value) in report.lines() {
            self.line(&format!("  {name:34} {value}"));
        }
    }
}
