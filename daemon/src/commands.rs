//! What a command line has. For tests that look at all of it.

use std::collections::BTreeMap;

use clap::Command;

/// The commands that have none of their own, hidden ones too, by their names below the binary's, such as
/// `sessions list`. What has commands of its own and needs none is as one of them.
#[must_use]
pub fn leaves(command: &Command) -> BTreeMap<String, Command> {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let mut found = BTreeMap::new();
    collect(&command, "", &mut found);
    found
}

fn collect(command: &Command, name: &str, found: &mut BTreeMap<String, Command>) {
    if !command.has_subcommands() {
        found.insert(name.to_owned(), command.clone());
    }
    for inner in command.get_subcommands() {
        let below = format!("{name} {}", inner.get_name());
        collect(inner, below.trim_start(), found);
    }
}
