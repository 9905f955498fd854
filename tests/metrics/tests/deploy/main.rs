//! The dashboards and alerts in `deploy/` name only what the daemons have.

mod dashboards;
mod query;
mod rules;

use std::path::{Path, PathBuf};

use doorstep_test_metrics::promtool;

/// A file or folder of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn read(path: &str) -> String {
    let file = repository(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Prometheus' own tool has nothing to say against it, where it is.
fn promtool_likes(arguments: &[&str]) {
    if let Some((good, told)) = promtool::run(arguments, "") {
        assert!(good, "promtool {}: {told}", arguments.join(" "));
    }
}
