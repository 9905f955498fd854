//! Man pages and completions for shells, made from a command line's own definition.
//!
//! ```text
//! man8/doorstep-server.8, man8/doorstep-server-sessions-force.8, …     a page for each command
//! bash/doorstep-server.bash  zsh/_doorstep-server  fish/doorstep-server.fish
//! ```
//!
//! What is hidden has no page. `cargo xtask docs` has the daemons make theirs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::aot::{Shell, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::exit::Exit;

/// System administration commands and daemons.
const SECTION: &str = "8";

const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash"),
    (Shell::Zsh, "zsh"),
    (Shell::Fish, "fish"),
];

/// The arguments of the hidden command that makes them.
#[derive(Clone, Debug, Args)]
pub struct Manual {
    /// Folder that gets them
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

impl Manual {
    /// Writes all of it, over what is there. `command` is the whole command line.
    ///
    /// # Errors
    /// When a file cannot be written; which one is said.
    pub fn write(&self, command: &Command) -> anyhow::Result<()> {
        let pages = self.folder(&format!("man{SECTION}"))?;
        let version = command.get_version().unwrap_or_default();
        let source = format!("{} {version}", command.get_name());
        for page in all(command) {
            let title = page.get_display_name().unwrap_or_else(|| page.get_name());
            let title = title.to_uppercase();
            let page = Man::new(page)
                .title(title)
                .section(SECTION)
                .source(source.trim_end())
                .manual("Doorstep");
            let mut text = Vec::new();
            let file = pages.join(page.get_filename());
            page.render(&mut text)
                .and_then(|()| exit_status().to_writer(&mut text))
                .and_then(|()| fs::write(&file, text))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        for (shell, name) in SHELLS {
            let folder = self.folder(name)?;
            generate_to(shell, &mut command.clone(), command.get_name(), &folder)
                .with_context(|| format!("cannot write completions to {}", folder.display()))?;
        }
        Ok(())
    }

    fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.out.join(name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(folder)
    }
}

/// The codes that any of the commands may end with.
fn exit_status() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    for exit in Exit::ALL {
        section.control("TP", []);
        section.text([bold(exit.number().to_string())]);
        section.text([roman(exit.meaning())]);
    }
    section
}

/// What of a command line, hidden commands left out, has no page or is in no completion below a folder
/// that [`Manual::write`] was told of, such as `doorstep-server sessions force: zsh`. For tests.
#[must_use]
pub fn lacking(command: &Command, folder: &Path) -> Vec<String> {
    let mut lacking = Vec::new();
    let name = command.get_name();
    let files = [
        format!("bash/{name}.bash"),
        format!("zsh/_{name}"),
        format!("fish/{name}.fish"),
    ];
    let completions = files.map(|file| fs::read_to_string(folder.join(file)).unwrap_or_default());
    look(command, &[], folder, &completions, &mut lacking);
    lacking
}

fn look(
    command: &Command,
    above: &[&str],
    folder: &Path,
    completions: &[String; 3],
    lacking: &mut Vec<String>,
) {
    let names = [above, &[command.get_name()]].concat();
    let page = format!("man{SECTION}/{}.{SECTION}", names.join("-"));
    let page = fs::read_to_string(folder.join(page)).unwrap_or_default();
    if !page.contains(".SH SYNOPSIS") {
        lacking.push(format!("{}: page", names.join(" ")));
    }
    for ((_, shell), text) in SHELLS.iter().zip(completions) {
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '-');
        if !words.any(|word| word == command.get_name()) {
            lacking.push(format!("{}: {shell}", names.join(" ")));
        }
    }
    for inner in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        look(inner, &names, folder, completions, lacking);
    }
}

/// A command and all below it that are not hidden, with their full names.
fn all(command: &Command) -> Vec<Command> {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let mut all = vec![command];
    let mut next = 0;
    while let Some(command) = all.get(next) {
        let inner = command.get_subcommands().filter(|one| !one.is_hide_set());
        let inner: Vec<_> = inner.cloned().collect();
        all.extend(inner);
        next += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn tool() -> Command {
        let list = Command::new("list").about("All lines of a tool that has some");
        let block = Command::new("block").arg(Arg::new("location").long("location"));
        let lines = Command::new("lines").subcommands([list, block]);
        let secret = Command::new("secret").hide(true);
        let tool = Command::new("doorstep-tool").version("1.2");
        tool.subcommands([lines, secret])
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_page_for_each_command_and_completions_for_each_shell() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("docs");
        let manual = Manual { out: out.clone() };
        manual.write(&tool()).expect("written");
        let pages = [
            "doorstep-tool-lines-block.8",
            "doorstep-tool-lines-list.8",
            "doorstep-tool-lines.8",
            "doorstep-tool.8",
        ];
        assert_eq!(names(&out.join("man8")), pages);
        assert_eq!(names(&out), ["bash", "fish", "man8", "zsh"]);
        assert_eq!(names(&out.join("bash")), ["doorstep-tool.bash"]);
        assert_eq!(names(&out.join("zsh")), ["_doorstep-tool"]);
        assert_eq!(names(&out.join("fish")), ["doorstep-tool.fish"]);
        let page = fs::read_to_string(out.join("man8").join(pages[1])).expect("a page");
        assert!(page.contains("All lines of a tool"), "{page}");
        let head = ".TH DOORSTEP-TOOL-LINES-LIST 8  \"doorstep-tool 1.2\" Doorstep";
        assert!(page.contains(head), "{page}");
        let status = page
            .split(".SH \"EXIT STATUS\"\n")
            .nth(1)
            .expect("the section");
        for exit in Exit::ALL {
            let row = format!("\\fB{}\\fR\n{}", exit.number(), exit.meaning());
            assert!(status.contains(&row), "{row}: {status}");
        }
        assert_eq!(lacking(&tool(), &out), [""; 0]);
        // Again, over it.
        manual.write(&tool()).expect("written");
        assert_eq!(names(&out.join("man8")), pages);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().to_owned();
        Manual { out: out.clone() }.write(&tool()).expect("written");
        fs::remove_file(out.join("man8/doorstep-tool-lines-block.8")).expect("removed");
        let zsh = out.join("zsh/_doorstep-tool");
        let text = fs::read_to_string(&zsh).expect("completions");
        fs::write(&zsh, text.replace("list", "lost")).expect("written");
        let expected = [
            "doorstep-tool lines list: zsh",
            "doorstep-tool lines block: page",
        ];
        assert_eq!(lacking(&tool(), &out), expected);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let out = file.path().to_owned();
        let error = Manual { out: out.clone() }.write(&tool()).expect_err("no");
        let said = format!("{error:#}");
        assert!(said.contains(&out.display().to_string()), "{said}");
    }
}
