//! How what was asked for goes on.

use maud::{Markup, html};

use crate::deed::Deed;
use crate::shell::bad;
use crate::state::State;
use crate::words::Words;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub state: State,
    pub detail: String,
    /// Since it was asked for.
    pub at_ms: u64,
}

/// How it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Well,
    Badly,
    /// Nobody waits for it any longer, and it goes on.
    Unknown,
}

/// The steps until now; `again` is where one begins anew.
#[must_use]
pub fn steps(words: &Words, deed: Deed, steps: &[Step], end: Option<End>, again: &str) -> Markup {
    let done = deed.words(&words.deeds);
    html! {
        @match end {
            Some(End::Well) => p.notice.good role="status" { strong { (done.well) } },
            Some(End::Badly) => (bad(words.steps.failed)),
            Some(End::Unknown) => p.notice.wait role="status" { (words.steps.stands) },
            None => {}
        }
        ol.timeline #steps data-end=(match end {
            None => "",
            Some(End::Well) => "well",
            Some(End::Badly) => "badly",
            Some(End::Unknown) => "unknown",
        }) {
            @for step in steps {
                @let said = step.state.said(&words.states);
                li class=(step.state.class()) data-state=(step.state.name()) {
                    strong { (said.name) }
                    " " span.faint { (seconds(step.at_ms)) " " (words.steps.at_s) }
                    br;
                    (said.means)
                    @if !step.detail.is_empty() && step.state.class() == "bad" {
                        br;
                        span.faint { (words.steps.detail) ": " span lang="en" { (step.detail) } }
                    }
                }
            }
        }
        @if end == Some(End::Badly) {
            p.actions { a.button.big #again href=(again) { (words.steps.again) } }
        }
        @if end.is_some() {
            p.actions {
                a.button.big[end == Some(End::Well)].plain[end != Some(End::Well)] #home href="/" {
                    (words.steps.home)
                }
            }
        }
    }
}

/// `1.2`
fn seconds(ms: u64) -> String {
    format!("{}.{}", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Language;

    #[test]
    fn steps_are_told_in_order_and_the_end_in_words() {
        let told = [(State::Requested, 0), (State::Accepted, 1_250)].map(|(state, at_ms)| Step {
            state,
            detail: "session 0198f".to_owned(),
            at_ms,
        });
        for language in Language::ALL {
            let words = language.words();
            let text = steps(words, Deed::Connect, &told, None, "/connect").into_string();
            let at = |state: State| text.find(state.said(&words.states).name).unwrap();
            assert!(at(State::Requested) < at(State::Accepted));
            assert!(text.contains("1.2 "));
            // It is of use to nobody.
            assert!(!text.contains("0198f"));
            for (end, said) in [
                (End::Well, words.deeds.connect.well),
                (End::Badly, words.steps.failed),
                (End::Unknown, words.steps.stands),
            ] {
                let text = steps(words, Deed::Connect, &told, Some(end), "/connect").into_string();
                assert!(text.contains(said), "{text}");
                assert_eq!(text.contains("href=\"/connect\""), end == End::Badly);
            }
        }
    }
}
