//! What subscribers may be put on: the part of the file that may change while the server runs.

use std::fmt;

use serde::Serialize;

use crate::session::service::Service;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub name: String,
    #[serde(flatten)]
    pub service: Service,
    #[serde(flatten)]
    pub offer: Offer,
}

/// Whether subscribers may choose a plan, and how it is shown to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Offer {
    pub offered: bool,
    /// Empty: the plan's name.
    pub title: String,
    /// In words; empty: nothing is said of it.
    pub price: String,
}

/// Most characters of a title, or a price.
const LONGEST_TEXT: usize = 60;

impl Offer {
    /// What is wrong with it, if anything: it is shown in one line.
    pub(super) fn problem(&self) -> Option<String> {
        let texts = [("title", &self.title), ("price", &self.price)];
        let (key, _) = texts.into_iter().find(|(_, text)| {
            text.chars().count() > LONGEST_TEXT || text.chars().any(char::is_control)
        })?;
        Some(format!(
            "{key}: must be one line of at most {LONGEST_TEXT} characters"
        ))
    }
}

impl fmt::Display for Offer {
    /// For people: `offered as \"Home 300\" for \"¥68 a month\"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.offered {
            return f.write_str("not offered");
        }
        f.write_str("offered")?;
        for (what, text) in [("as", &self.title), ("for", &self.price)] {
            if !text.is_empty() {
                write!(f, " {what} {text:?}")?;
            }
        }
        Ok(())
    }
}

/// All plans, and the one of subscribers who were put on none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plans {
    #[serde(rename = "plans")]
    pub(super) all: Vec<Plan>,
    /// The name of one of them.
    #[serde(rename = "default_plan")]
    pub(super) default: Option<String>,
}

/// How one plan differs. One of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanChange {
    pub name: String,
    /// Absent: the plan is new.
    pub before: Option<Service>,
    /// Absent: the plan is gone.
    pub after: Option<Service>,
}

impl Plans {
    pub fn iter(&self) -> std::slice::Iter<'_, Plan> {
        self.all.iter()
    }

    pub fn named(&self, name: &str) -> Option<&Plan> {
        self.all.iter().find(|plan| plan.name == name)
    }

    pub fn default(&self) -> Option<&Plan> {
        self.named(self.default.as_deref()?)
    }

    /// Those that a subscriber may choose from: what is offered, and what they get without a choice.
    pub fn choice<'a>(&'a self, own: Option<&'a str>) -> impl Iterator<Item = &'a Plan> {
        let own = self.of(own).map(|plan| plan.name.as_str());
        self.iter()
            .filter(move |plan| plan.offer.offered || own == Some(plan.name.as_str()))
    }

    /// The plan of a subscriber who was put on `own`, or on none.
    pub fn of(&self, own: Option<&str>) -> Option<&Plan> {
        own.and_then(|name| self.named(name))
            .or_else(|| self.default())
    }

    /// Plans that are offered otherwise in `later`, with how.
    pub fn other_offers<'a>(&self, later: &'a Plans) -> Vec<&'a Plan> {
        let before = |name| self.named(name).map(|plan| plan.offer.clone());
        let plans = later.iter();
        plans
            .filter(|plan| before(&plan.name).unwrap_or_default() != plan.offer)
            .collect()
    }

    /// Whether any session on one may end by itself.
    pub fn have_time_to_live(&self) -> bool {
        self.iter().any(|plan| plan.service.time_to_live_s > 0)
    }

    /// How `later` differs: what is new or other in its order, then what is gone.
    pub fn changes(&self, later: &Plans) -> Vec<PlanChange> {
        let new_or_other = later.iter().filter_map(|plan| {
            let before = self.named(&plan.name).map(|plan| plan.service);
            (before != Some(plan.service)).then(|| PlanChange {
                name: plan.name.clone(),
                before,
                after: Some(plan.service),
            })
        });
        let gone = self.iter().filter(|plan| later.named(&plan.name).is_none());
        let gone = gone.map(|plan| PlanChange {
            name: plan.name.clone(),
            before: Some(plan.service),
            after: None,
        });
        new_or_other.chain(gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans(all: &[(&str, u64)]) -> Plans {
        let plan = |(name, up): &(&str, u64)| Plan {
            name: (*name).to_owned(),
            service: Service {
                upstream_bps: *up,
                ..Service::default()
            },
            offer: Offer::default(),
        };
        Plans {
            all: all.iter().map(plan).collect(),
            default: None,
        }
    }

    #[test]
    fn changes_tell_what_is_new_other_and_gone() {
        let before = plans(&[("same", 1), ("other", 2), ("gone", 3)]);
        let after = plans(&[("new", 4), ("other", 5), ("same", 1)]);
        let told: Vec<_> = before
            .changes(&after)
            .into_iter()
            .map(|change| {
                let up = |service: Option<Service>| service.map(|service| service.upstream_bps);
                (change.name, up(change.before), up(change.after))
            })
            .collect();
        let expected = [
            ("new", None, Some(4)),
            ("other", Some(2), Some(5)),
            ("gone", Some(3), None),
        ];
        assert_eq!(told, expected.map(|(name, b, a)| (name.to_owned(), b, a)));
        assert_eq!(after.changes(&after), []);
    }

    #[test]
    fn a_subscriber_chooses_from_what_is_offered_and_their_own() {
        let mut plans = plans(&[("basic", 1), ("home", 2), ("office", 3)]);
        plans.all[1].offer.offered = true;
        plans.default = Some("basic".to_owned());
        let names = |own| {
            let choice = plans.choice(own);
            choice.map(|plan| plan.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(None), ["basic", "home"]);
        assert_eq!(names(Some("home")), ["home"]);
        assert_eq!(names(Some("office")), ["home", "office"]);
        // A plan that is gone gives way to the default one.
        assert_eq!(names(Some("gone")), ["basic", "home"]);
    }

    #[test]
    fn offers_that_are_new_or_other_are_told() {
        let before = plans(&[("same", 1), ("other", 2), ("gone", 3)]);
        let mut after = plans(&[("same", 1), ("other", 2), ("new", 4)]);
        for at in [1, 2] {
            after.all[at].offer = Offer {
                offered: true,
                title: "家庭 300".to_owned(),
                price: String::new(),
            };
        }
        let told = before.other_offers(&after);
        let told: Vec<_> = told.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(told, ["other", "new"]);
        assert_eq!(after.all[1].offer.to_string(), "offered as \"家庭 300\"");
        assert!(after.other_offers(&after).is_empty());
    }
}
