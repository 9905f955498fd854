//! What stands in a form that somebody has sent.

use std::collections::HashMap;

#[derive(Debug, Default)]
pub struct Fields(HashMap<String, String>);

impl From<HashMap<String, String>> for Fields {
    fn from(fields: HashMap<String, String>) -> Self {
        Fields(fields)
    }
}

impl Fields {
    /// Without what stands around it; empty if it is not there.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.trim())
    }

    /// As it is, such as a password.
    pub fn take(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_default()
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }
}
