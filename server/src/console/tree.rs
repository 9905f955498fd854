//! Sessions counted by place: city, district, community, building.

use std::collections::BTreeMap;

use doorstep_location::LocationPrefix;

use crate::session::State;
use crate::store::BuildingCount;

/// Of what kinds places are, by how many components are fixed.
pub const LEVELS: [&str; 4] = ["City", "District", "Community", "Building"];
const CITY_LEN: usize = 4;

/// Sessions by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; State::ALL.len()]);

impl Counts {
    pub fn add(&mut self, state: State, sessions: u64) {
        self.0[state as usize] += sessions;
    }

    pub fn of(&self, states: &[State]) -> u64 {
        states.iter().map(|state| self.0[*state as usize]).sum()
    }

    pub fn all(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Every place that has sessions or, by the configuration, a gateway.
#[derive(Debug, Default)]
pub struct Tree {
    whole: Counts,
    /// By level and prefix.
    places: BTreeMap<(usize, String), Counts>,
}

impl Tree {
    pub fn new<'a>(
        counts: &[BuildingCount],
        configured: impl Iterator<Item = &'a LocationPrefix>,
    ) -> Self {
        let mut tree = Tree::default();
        for prefix in configured {
            for (level, place) in above(prefix.as_str()) {
                tree.places.entry((level, place.to_owned())).or_default();
            }
        }
        for count in counts {
            tree.whole.add(count.state, count.sessions);
            for (level, place) in above(&count.building) {
                let counts = tree.places.entry((level, place.to_owned())).or_default();
                counts.add(count.state, count.sessions);
            }
        }
        tree
    }

    /// Of a place, or of all.
    pub fn counts(&self, place: Option<&str>) -> Counts {
        match place {
            None => self.whole,
            Some(place) => {
                let key = (level(place), place.to_owned());
                self.places.get(&key).copied().unwrap_or_default()
            }
        }
    }

    /// The places one level below a place, or the cities.
    pub fn below(&self, place: Option<&str>) -> impl Iterator<Item = (&str, Counts)> {
        let (level, start) = match place {
            None => (0, String::new()),
            Some(place) if place.len() == CITY_LEN => (1, place.to_owned()),
            Some(place) => (level(place) + 1, format!("{place}-")),
        };
        self.places
            .range((level, start.clone())..)
            .take_while(move |((of, text), _)| *of == level && text.starts_with(&start))
            .map(|((_, text), counts)| (text.as_str(), *counts))
    }
}

/// How many components of a place are fixed: 0 for a city.
pub fn level(place: &str) -> usize {
    if place.len() == CITY_LEN {
        0
    } else {
        place.split('-').count()
    }
}

/// A place and those that it lies in, the largest first, as far as they are counted.
pub fn above(place: &str) -> impl Iterator<Item = (usize, &str)> {
    let ends = place.match_indices('-').map(|(at, _)| at);
    let ends = ends.chain([place.len()]).filter(|end| *end > CITY_LEN);
    std::iter::once(CITY_LEN.min(place.len()))
        .chain(ends)
        .map(|end| &place[..end])
        .enumerate()
        .take(LEVELS.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(building: &str, state: State, sessions: u64) -> BuildingCount {
        BuildingCount {
            building: building.to_owned(),
            state,
            sessions,
        }
    }

    #[test]
    fn each_level_sums_up_the_next() {
        let configured: Vec<LocationPrefix> = ["110103-xin-003-001-0001", "4403"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let tree = Tree::new(
            &[
                count("110103-xin-001", State::Established, 5),
                count("110103-xin-001", State::Refused, 1),
                count("110103-xin-002", State::Established, 2),
                count("110103-xinjing-001", State::Connecting, 3),
                count("110105-he-001", State::Established, 7),
            ],
            configured.iter(),
        );
        let below = |place| -> Vec<(&str, u64)> {
            let all = tree.below(place);
            all.map(|(place, counts)| (place, counts.all())).collect()
        };
        assert_eq!(below(None), [("1101", 18), ("4403", 0)]);
        assert_eq!(below(Some("1101")), [("110103", 11), ("110105", 7)]);
        assert_eq!(
            below(Some("110103")),
            [("110103-xin", 8), ("110103-xinjing", 3)]
        );
        assert_eq!(
            below(Some("110103-xin")),
            [
                ("110103-xin-001", 6),
                ("110103-xin-002", 2),
                ("110103-xin-003", 0)
            ]
        );
        assert_eq!(below(Some("110103-xin-001")), []);
        assert_eq!(below(Some("4403")), []);
        assert_eq!(tree.counts(None).of(&[State::Established]), 14);
        assert_eq!(tree.counts(Some("110103-xin")).of(&[State::Refused]), 1);
        assert_eq!(tree.counts(Some("9999")).all(), 0);
    }

    #[test]
    fn a_place_lies_in_larger_ones() {
        for (place, all) in [
            ("1101", vec!["1101"]),
            ("110103", vec!["1101", "110103"]),
            (
                "110103-xin-001-002-0003",
                vec!["1101", "110103", "110103-xin", "110103-xin-001"],
            ),
        ] {
            let found: Vec<_> = above(place).map(|(_, text)| text).collect();
            assert_eq!(found, all);
        }
    }
}
