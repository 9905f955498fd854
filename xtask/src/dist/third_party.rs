//! The crates that a daemon is linked with: their names and the texts of their licences, which go
//! wherever the binaries go.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{cargo::cargo, process::text};

/// How files with licences begin.
const LICENCES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

/// What `cargo metadata` says of all crates.
#[derive(Deserialize)]
pub struct Crates {
    packages: Vec<Crate>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Crate {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// None for those of the workspace.
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// None for what is linked; `build` and `dev` are not.
    kind: Option<String>,
}

impl Crates {
    pub fn read() -> Result<Self> {
        let answer = text(cargo().args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ]))?;
        serde_json::from_str(&answer).context("cannot read what `cargo metadata` says")
    }

    /// The crates of others that packages of the workspace are linked with, and their licences; each
    /// text once.
    pub fn of(&self, packages: &[&str]) -> Result<String> {
        let mut list = String::from("Crates of others in this program, with their licences.\n\n");
        let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for linked in self.linked(packages)? {
            let name = format!("{} {}", linked.name, linked.version);
            let licence = linked.license.as_deref().unwrap_or("see below");
            list.push_str(&format!("{name}: {licence}\n"));
            for text in licences(linked.manifest_path.parent().unwrap_or(Path::new("/")))? {
                texts.entry(text).or_default().push(name.clone());
            }
        }
        for (text, names) in texts {
            list.push_str(&format!("\n---- {}\n\n{text}\n", names.join(", ")));
        }
        Ok(list)
    }

    /// In the order of their names.
    fn linked(&self, packages: &[&str]) -> Result<Vec<&Crate>> {
        let by_id: HashMap<&str, &Crate> = self.packages.iter().map(|it| (&*it.id, it)).collect();
        let nodes: HashMap<&str, &Node> =
            self.resolve.nodes.iter().map(|it| (&*it.id, it)).collect();
        let find = |package: &&str| {
            let mut own = self.packages.iter().filter(|it| it.source.is_none());
            let found = own.find(|it| it.name == *package);
            found.with_context(|| format!("cargo knows no package {package}"))
        };
        let first = packages.iter().map(find);
        let first = first.map(|found| Ok(&*found?.id));
        let (mut known, mut next) = (BTreeSet::new(), first.collect::<Result<Vec<_>>>()?);
        while let Some(id) = next.pop() {
            if known.insert(id) {
                let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
                let linked = dependencies
                    .filter(|it| it.dep_kinds.iter().any(|kind| kind.kind.is_none()))
                    .map(|it| &*it.pkg);
                next.extend(linked);
            }
        }
        let known = known.into_iter().filter_map(|id| by_id.get(id).copied());
        let mut others: Vec<_> = known.filter(|it| it.source.is_some()).collect();
        others.sort_by_key(|it| (&it.name, &it.version));
        Ok(others)
    }
}

/// The texts in a crate's folder, in the order of their files' names.
fn licences(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("cannot list the crate's folder {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_uppercase();
            path.is_file() && LICENCES.iter().any(|begin| name.starts_with(begin))
        })
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    paths.into_iter().map(read).collect()
}
