//! The overview: sessions by city, district, community and building.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use doorstep_location::LocationPrefix;
use maud::{Markup, html};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::Console;
use super::problem::{Problem, Result};
use super::shell::Here;
use super::text::{number, state as shown_state};
use super::tree::{Counts, LEVELS, Tree, above, level};
use super::user::User;
use crate::engine::Engine;
use crate::session::State as S;

/// Counting walks over all sessions: at most a tenth of the time goes into it, and no more often than
/// pages are told of changes.
const LEAST: Duration = Duration::from_millis(900);
const REST: u32 = 10;

/// The tree as it was last counted, for whoever looks at it.
#[derive(Default)]
pub struct Places(Mutex<Option<Counted>>);

struct Counted {
    tree: Arc<Tree>,
    until: Instant,
}

impl Places {
    async fn tree(&self, engine: &Engine) -> Result<Arc<Tree>> {
        // Who comes while it is counted waits for the same count.
        let mut counted = self.0.lock().await;
        if let Some(counted) = &*counted
            && Instant::now() < counted.until
        {
            return Ok(Arc::clone(&counted.tree));
        }
        let began = Instant::now();
        let counts = engine.store.count_by_building().await?;
        let gateways = engine.config.gateways.iter();
        let configured = gateways.flat_map(|gateway| &gateway.locations);
        let tree = Arc::new(Tree::new(&counts, configured));
        let until = Instant::now() + LEAST.max(began.elapsed() * REST);
        *counted = Some(Counted {
            tree: Arc::clone(&tree),
            until,
        });
        Ok(tree)
    }
}

#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    at: String,
}

pub async fn show(
    State(console): State<Arc<Console>>,
    user: User,
    Query(asked): Query<Asked>,
) -> Result<Markup> {
    let place = prefix(&asked.at)?;
    let place = place.as_ref().map(LocationPrefix::as_str);
    if place.is_some_and(|place| level(place) >= LEVELS.len()) {
        return Err(Problem::not_found(
            "Places are counted down to the building; look for a unit or a home among the sessions.",
        ));
    }
    let engine = &console.engine;
    let tree = console.places.tree(engine).await?;
    let live = html! {
        (crumbs(place))
        (summary(engine, place, tree.counts(place)))
        (table(&tree, place))
    };
    Ok(console.live_page(&user, Here::Overview, "Overview", &live))
}

/// A place that somebody asks for; none if nothing is given.
pub fn prefix(text: &str) -> Result<Option<LocationPrefix>> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse();
    parsed
        .map(Some)
        .map_err(|error| Problem::invalid("place", error))
}

/// Where a place lies.
pub fn crumbs(place: Option<&str>) -> Markup {
    html! {
        nav aria-label="Place" {
            ul.crumbs {
                li { a href="/" { "All" } }
                @for (_, place) in place.into_iter().flat_map(above) {
                    li { a href={ "/?at=" (place) } { (last(place)) } }
                }
            }
        }
    }
}

/// The last component of a place.
fn last(place: &str) -> &str {
    place.rsplit('-').next().unwrap_or(place)
}

fn summary(engine: &Engine, place: Option<&str>, counts: Counts) -> Markup {
    let (connected, configured) = (
        engine.hub.gateways_connected(),
        engine.config.gateways.len(),
    );
    html! {
        dl.facts.card {
            dt { "Sessions" }
            dd { (number(counts.all())) }
            @for state in S::ALL {
                @let sessions = counts.of(&[state]);
                @if sessions > 0 || state == S::Established {
                    dt { (shown_state(state)) }
                    dd { a href={ "/sessions?state=" (state.name()) "&at=" (place.unwrap_or_default()) } { (number(sessions)) } }
                }
            }
            @if place.is_none() {
                dt { "Silent terminals" }
                dd { (number(engine.hub.silent() as u64)) }
                dt { "Gateways connected here" }
                dd { (connected) " of " (configured) }
            }
        }
    }
}

fn table(tree: &Tree, place: Option<&str>) -> Markup {
    let below = place.map_or(0, |place| level(place) + 1);
    let Some(kind) = LEVELS.get(below) else {
        let place = place.unwrap_or_default();
        return html! {
            p { a.button href={ "/sessions?at=" (place) } { "Sessions in this building" } }
        };
    };
    let rows: Vec<_> = tree.below(place).collect();
    if rows.is_empty() {
        return html! {
            p.notice {
                "There is nothing below this place: neither a session nor a gateway's prefix."
            }
        };
    }
    html! {
        h2 { (plural(kind)) }
        table.stack {
            thead {
                tr {
                    th scope="col" { (kind) }
                    th.number scope="col" { "Sessions" }
                    th.number scope="col" { "Established" }
                    th.number scope="col" { "Opening" }
                    th.number scope="col" { "Moving or ending" }
                    th.number scope="col" { "Refused" }
                    th scope="col" { "States" }
                }
            }
            tbody {
                @for (place, counts) in rows { (row(place, below, counts)) }
            }
        }
    }
}

fn plural(kind: &str) -> String {
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    }
}

const OPENING: [S; 2] = [S::Connecting, S::Establishing];
const ENDING: [S; 2] = [S::Disconnecting, S::DisconnectingUnconfirmed];

fn row(place: &str, at_level: usize, counts: Counts) -> Markup {
    let path = if at_level + 1 < LEVELS.len() {
        format!("/?at={place}")
    } else {
        format!("/sessions?at={place}")
    };
    let cell = |label: &str, states: &[S]| {
        html! { td.number data-label=(label) { (number(counts.of(states))) } }
    };
    html! {
        tr {
            th scope="row" { a href=(path) { (last(place)) } }
            td.number data-label="Sessions" { (number(counts.all())) }
            (cell("Established", &[S::Established]))
            (cell("Opening", &OPENING))
            (cell("Moving or ending", &ENDING))
            (cell("Refused", &[S::Refused]))
            td { (bar(counts)) }
        }
    }
}

/// The states' shares as a bar of 100 units; the numbers stand beside it.
fn bar(counts: Counts) -> Markup {
    let all = counts.all();
    let parts: [(&str, &[S]); 4] = [
        ("good", &[S::Established]),
        ("busy", &OPENING),
        ("wait", &ENDING),
        ("bad", &[S::Refused]),
    ];
    let mut before = 0;
    let parts: Vec<_> = parts
        .into_iter()
        .map(|(class, states)| {
            let (from, sessions) = (before, counts.of(states));
            before += sessions;
            (class, from, sessions)
        })
        .filter(|(.., sessions)| *sessions > 0)
        .collect();
    html! {
        @if all > 0 {
            svg.bar viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
                @for (class, from, sessions) in parts {
                    rect class=(class) x=(share(from, all)) y="0" width=(share(sessions, all)) height="6" {}
                }
            }
        }
    }
}

fn share(part: u64, all: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(all.max(1));
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_a_hundred() {
        assert_eq!(share(0, 3), "0.00");
        assert_eq!(share(1, 3), "33.33");
        assert_eq!(share(3, 3), "100.00");
        assert_eq!(share(u64::MAX, u64::MAX), "100.00");
    }

    #[test]
    fn a_bar_goes_from_one_end_to_the_other() {
        let mut counts = Counts::default();
        assert_eq!(bar(counts).into_string(), "");
        counts.add(S::Established, 3);
        counts.add(S::Refused, 1);
        let text = bar(counts).into_string();
        assert!(
            text.contains(r#"class="good" x="0.00" y="0" width="75.00""#),
            "{text}"
        );
        assert!(
            text.contains(r#"class="bad" x="75.00" y="0" width="25.00""#),
            "{text}"
        );
    }

    #[test]
    fn kinds_of_places_have_plurals() {
        let all: Vec<_> = LEVELS.into_iter().map(plural).collect();
        assert_eq!(all, ["Cities", "Districts", "Communities", "Buildings"]);
    }
}
