//! What subscribers may be put on: the part of the file that may change while the server runs.

use serde::Serialize;

use crate::session::service::Service;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub name: String,
    #[serde(flatten)]
    pub service: Service,
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
}
