//! The documents of the project.

use std::fs;
use std::path::{Path, PathBuf};

/// A Markdown file of the project.
#[derive(Debug)]
pub struct Document {
    /// Below the project's folder.
    pub path: PathBuf,
    pub text: String,
}

impl Document {
    /// All of them, in the order of their paths.
    ///
    /// # Panics
    /// If a folder or a file cannot be read.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut found = Vec::new();
        collect(&root(), &mut found);
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found
    }

    /// Which line a place in the text is on, as people count.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }
}

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn collect(folder: &Path, found: &mut Vec<Document>) {
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let entry = entry.expect("an entry of a folder");
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.to_string_lossy().starts_with('.');
        if entry.file_type().expect("a file's type").is_dir() {
            if !hidden && name != "target" {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = fs::read_to_string(&path).expect("a text in UTF-8");
            let path = path
                .strip_prefix(root())
                .expect("below the folder")
                .to_path_buf();
            found.push(Document { path, text });
        }
    }
}
