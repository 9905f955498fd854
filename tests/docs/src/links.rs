//! Links from document to document. What leads to the internet is not followed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::documents::{Document, root};

/// What leads nowhere, such as `docs/a.md:7: b.md#there: no such heading`.
#[must_use]
pub fn broken_links(documents: &[Document]) -> Vec<String> {
    let headings: BTreeMap<&Path, Vec<String>> = documents
        .iter()
        .map(|document| (document.path.as_path(), headings(&document.text)))
        .collect();
    documents
        .iter()
        .flat_map(|document| {
            links(document).filter_map(|(line, link)| {
                let problem = problem(document, &link, &headings)?;
                Some(format!(
                    "{}:{line}: {link}: {problem}",
                    document.path.display()
                ))
            })
        })
        .collect()
}

fn links(document: &Document) -> impl Iterator<Item = (usize, String)> {
    parser(&document.text)
        .into_offset_iter()
        .filter_map(|(event, range)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some((document.line(range.start), dest_url.to_string()))
            }
            _ => None,
        })
}

fn problem(
    document: &Document,
    link: &str,
    headings: &BTreeMap<&Path, Vec<String>>,
) -> Option<&'static str> {
    if ["https:", "http:", "mailto:"]
        .iter()
        .any(|scheme| link.starts_with(scheme))
    {
        return None;
    }
    let (file, anchor) = match link.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (link, None),
    };
    let path = if file.is_empty() {
        document.path.clone()
    } else {
        let folder = document.path.parent().unwrap_or(Path::new(""));
        let Some(path) = normal(&folder.join(file)) else {
            return Some("outside the project");
        };
        path
    };
    if !root().join(&path).exists() {
        return Some("no such file");
    }
    let anchor = anchor?;
    match headings.get(path.as_path()) {
        Some(headings) if headings.iter().any(|heading| heading == anchor) => None,
        Some(_) => Some("no such heading"),
        None => Some("a heading of what is no document"),
    }
}

/// Without `.` and `..`; none: it leaves the project.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir if !normal.pop() => return None,
            Component::ParentDir | Component::CurDir => {}
            other => normal.push(other),
        }
    }
    Some(normal)
}

/// What links call a document's headings, as the usual viewers make it: small letters, blanks as `-`,
/// without punctuation; the second of a name is `name-1`.
fn headings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut heading: Option<String> = None;
    for event in parser(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(part) | Event::Code(part) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&part);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let name = slug(&heading.take().unwrap_or_default());
                let before = seen.entry(name.clone()).or_insert(0);
                found.push(match *before {
                    0 => name,
                    n => format!("{name}-{n}"),
                });
                *before += 1;
            }
            _ => {}
        }
    }
    found
}

fn slug(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter.is_alphanumeric().then_some(letter),
        })
        .collect()
}

fn parser(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str, text: &str) -> Document {
        Document {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn what_leads_nowhere_is_told_with_its_line() {
        let documents = [
            document(
                "README.md",
                "# A `b`, c!\n[own](#a-b-c) [x](https://example.net)\n[gone](gone.md) [dir](docs)\n\
                 [gone](docs/README.md#gone) [out](../x.md)\n# Two\n# Two\n[2](#two-1) [3](#two-2)\n",
            ),
            document("docs/README.md", "# There\n[up](../README.md#two)"),
        ];
        assert_eq!(
            broken_links(&documents),
            [
                "README.md:3: gone.md: no such file",
                "README.md:4: docs/README.md#gone: no such heading",
                "README.md:4: ../x.md: outside the project",
                "README.md:7: #two-2: no such heading",
            ]
        );
    }
}
