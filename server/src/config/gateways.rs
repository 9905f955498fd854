//! The gateways of an operator, found at once by name and by place, however many there are.

use std::collections::HashMap;
use std::ops::Deref;

use doorstep_location::{LocationId, LocationPrefix};
use serde::{Serialize, Serializer};

use super::Gateway;

/// All gateways, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Gateways {
    all: Vec<Gateway>,
    by_id: HashMap<String, usize>,
    by_prefix: HashMap<String, usize>,
}

impl Gateways {
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Gateway> {
        self.by_id.get(id).map(|index| &self.all[*index])
    }

    /// The gateway that serves a location: of all prefixes that contain it, the most specific.
    #[must_use]
    pub fn serving(&self, location: &LocationId) -> Option<&Gateway> {
        LocationPrefix::texts_containing(location)
            .find_map(|prefix| self.by_prefix.get(prefix))
            .map(|index| &self.all[*index])
    }
}

impl From<Vec<Gateway>> for Gateways {
    /// Names and prefixes are each there once, which whoever read them has seen to.
    fn from(all: Vec<Gateway>) -> Self {
        let numbered = || all.iter().enumerate();
        Gateways {
            by_id: numbered()
                .map(|(index, gateway)| (gateway.id.clone(), index))
                .collect(),
            by_prefix: numbered()
                .flat_map(|(index, gateway)| {
                    let prefixes = gateway.locations.iter();
                    prefixes.map(move |prefix| (prefix.as_str().to_owned(), index))
                })
                .collect(),
            all,
        }
    }
}

impl Deref for Gateways {
    type Target = [Gateway];

    fn deref(&self) -> &[Gateway] {
        &self.all
    }
}

impl<'a> IntoIterator for &'a Gateways {
    type Item = &'a Gateway;
    type IntoIter = std::slice::Iter<'a, Gateway>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

impl Serialize for Gateways {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(to)
    }
}
