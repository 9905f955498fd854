//! Commands in documents: lines of `console` blocks, and code within text.
//!
//! A line of a block must be a whole command. Code within text may be a part of one (`sessions force` needs
//! an id), but has no command or option that is not there. Words in capitals stand for something.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::documents::Document;

/// Commands in the documents that the binary of this command line would not take, such as
/// `docs/a.md:7: doorstep-server sessions list --nowhere: unexpected argument '--nowhere' found`.
///
/// # Panics
/// If no document has a command of it: then nothing has been looked at.
#[must_use]
pub fn wrong_commands(command: &Command, documents: &[Document]) -> Vec<String> {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let mut looked_at = 0;
    let mut wrong = Vec::new();
    for document in documents {
        for found in commands(document, name) {
            looked_at += 1;
            if let Some(problem) = problem(command, name, &found) {
                let (path, line, text) = (document.path.display(), found.line, &found.text);
                wrong.push(format!("{path}:{line}: {text}: {problem}"));
            }
        }
    }
    assert!(looked_at > 0, "no document has a command of {name}");
    wrong
}

struct Found {
    line: usize,
    text: String,
    whole: bool,
}

fn problem(command: &Command, name: &str, found: &Found) -> Option<String> {
    let Some(words) = shlex::split(&found.text) else {
        return Some("quotes that do not end".to_owned());
    };
    let rest = words.into_iter().skip(name.split(' ').count());
    let words = std::iter::once(name.to_owned()).chain(rest);
    let error = command.clone().try_get_matches_from(words).err()?;
    let fine = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => !found.whole,
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => stands_for_something(&error),
        _ => false,
    };
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    (!fine).then(|| first.trim_start_matches("error: ").to_owned())
}

/// Whether the value that was refused is a word like `ID`, or none because it was left out.
fn stands_for_something(error: &clap::Error) -> bool {
    match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value
            .chars()
            .all(|letter| letter.is_ascii_uppercase() || "-_/.…".contains(letter)),
        _ => false,
    }
}

fn commands(document: &Document, name: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut block = false;
    for (event, range) in Parser::new_ext(&document.text, Options::ENABLE_TABLES).into_offset_iter()
    {
        let line = document.line(range.start);
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(kind))) => {
                block = &*kind == "console"
            }
            Event::End(TagEnd::CodeBlock) => block = false,
            Event::Text(text) if block => {
                found.extend(in_block(&text, line, name));
            }
            Event::Code(text) if is_command(&text, name) && !has_alternatives(&text) => {
                found.push(Found {
                    line,
                    text: text.to_string(),
                    whole: false,
                });
            }
            _ => {}
        }
    }
    found
}

/// The commands of a block's text, which begins at that line.
fn in_block(text: &str, first: usize, name: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut lines = text.lines().zip(first..);
    while let Some((line, number)) = lines.next() {
        let mut whole = without_comment(line).to_owned();
        while let Some(begun) = whole.strip_suffix('\\') {
            let Some((next, _)) = lines.next() else { break };
            whole = format!("{begun}{}", without_comment(next));
        }
        for part in whole.split("; ").flat_map(|part| part.split(" && ")) {
            let part = part.split(" | ").next().unwrap_or_default();
            // What another program runs, such as `runuser -u USER -- COMMAND`.
            let part = part.split_once(" -- ").map_or(part, |(before, command)| {
                if is_command(command, name) {
                    command
                } else {
                    before
                }
            });
            let part = part.trim();
            if is_command(part, name) {
                found.push(Found {
                    line: number,
                    text: part.to_owned(),
                    whole: true,
                });
            }
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    line.split_once(" #")
        .map_or(line, |(command, _)| command)
        .trim()
}

fn is_command(text: &str, name: &str) -> bool {
    text.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Whether it is a pattern rather than a command.
fn has_alternatives(text: &str) -> bool {
    text.contains(['[', '|', '…']) || text.contains("...")
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, value_parser};

    use super::*;

    fn tool() -> Command {
        Command::new("tool").subcommand(
            Command::new("go")
                .arg(
                    Arg::new("times")
                        .value_parser(value_parser!(u8))
                        .required(true),
                )
                .arg(Arg::new("fast").long("fast").action(ArgAction::SetTrue)),
        )
    }

    fn wrong(text: &str) -> Vec<String> {
        let path = "a.md".into();
        let text = text.into();
        wrong_commands(&tool(), &[Document { path, text }])
    }

    #[test]
    fn commands_that_exist_are_right() {
        let text = "`tool go`, `tool go --fast N`, `tool [go | come]`, `toolbox come`\n\n\
                    ```console\n# tool come\nas root -- tool go 3 --fast   # quick\ntool go \\\n  4 && tool go N | less\n```\n\n\
                    ```text\ntool come\n```\n";
        assert_eq!(wrong(text), [""; 0]);
    }

    #[test]
    fn commands_that_do_not_exist_are_told_with_their_lines() {
        let text =
            "`tool go --slow`\n\n```console\ntool go 1\ntool come; tool go\ntool go 300\n```\n";
        let wrong = wrong(text);
        let places: Vec<&str> = wrong
            .iter()
            .map(|wrong| wrong.split(": ").next().unwrap_or_default())
            .collect();
        assert_eq!(
            places,
            ["a.md:1", "a.md:5", "a.md:5", "a.md:6"],
            "{wrong:?}"
        );
        assert!(wrong[0].contains("--slow"), "{wrong:?}");
    }

    #[test]
    #[should_panic(expected = "no document has a command of tool")]
    fn having_looked_at_nothing_is_no_success() {
        let _ = wrong("nothing");
    }
}
