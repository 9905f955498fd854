//! Connections as they are.

use maud::{Markup, html};

use crate::deed::Deed;
use crate::state::State;
use crate::words::Words;

/// One connection.
#[derive(Clone, Debug)]
pub struct Session<'a> {
    pub id: &'a str,
    /// Empty where there is only one anyway.
    pub operator: &'a str,
    pub state: State,
    /// What is wrong, in the daemon's words.
    pub detail: &'a str,
    pub addresses: Vec<&'a str>,
}

/// All of them, each with what can be done to it.
#[must_use]
pub fn sessions(words: &Words, sessions: &[Session<'_>]) -> Markup {
    let is_online = sessions.iter().any(|own| own.state == State::Established);
    html! {
        @if sessions.is_empty() {
            p.lead { (words.home.welcome) }
            p.faint { (words.home.how) }
            p { a.button.big #connect href="/connect" { (Deed::Connect.words(&words.deeds).name) } }
        } @else {
            @if is_online {
                p.lead.state.good { (words.home.online) }
            } @else {
                p.lead.state.wait { (words.home.not_online) }
            }
            @for session in sessions {
                (card(words, session, true))
            }
            p.actions {
                a.button.plain #add href="/add" { (Deed::Additional.words(&words.deeds).name) "…" }
            }
        }
    }
}

/// One of them, with or without what can be done to it.
#[must_use]
pub fn card(words: &Words, session: &Session<'_>, has_deeds: bool) -> Markup {
    let said = session.state.said(&words.states);
    html! {
        section.card.session data-session=(session.id) {
            h2 {
                span class={ "state " (session.state.class()) } { (said.name) }
                @if !session.operator.is_empty() { " · " (session.operator) }
            }
            p { (said.means) @if session.state == State::Silent { " " (words.home.at_cable) } }
            @if !session.addresses.is_empty() {
                dl.facts {
                    dt { (words.home.address) }
                    dd { @for address in &session.addresses { (address) br; } }
                }
            }
            @if !session.detail.is_empty() && session.state.class() == "bad" {
                p.faint lang="en" { (session.detail) }
            }
            @if has_deeds {
                details id={ "change-" (session.id) } {
                    summary id={ "open-" (session.id) } { (words.home.change) }
                    div.actions {
                        @for deed in Deed::ALL.into_iter().filter(|deed| deed.has_session()) {
                            a.button.plain[deed != Deed::Release].danger[deed == Deed::Release]
                                data-deed=(deed.path())
                                href={ "/" (deed.path()) "?session=" (session.id) } {
                                (deed.words(&words.deeds).name) "…"
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Language;

    fn one(state: State) -> Session<'static> {
        Session {
            id: "0198f",
            operator: "north",
            state,
            detail: "<gw1> does not answer",
            addresses: vec!["100.64.1.10"],
        }
    }

    #[test]
    fn whoever_has_nothing_is_led_to_connect_and_to_nothing_else() {
        for language in Language::ALL {
            let text = sessions(language.words(), &[]).into_string();
            assert_eq!(text.matches("href=").count(), 1, "{text}");
            assert!(text.contains("href=\"/connect\""));
        }
    }

    #[test]
    fn each_state_says_its_name_and_what_it_means() {
        for language in Language::ALL {
            let words = language.words();
            for state in State::ALL {
                let text = sessions(words, &[one(state)]).into_string();
                let said = state.said(&words.states);
                assert!(
                    text.contains(said.name) && text.contains(said.means),
                    "{text}"
                );
                assert_eq!(
                    text.contains(words.home.online),
                    state == State::Established,
                    "{state:?}"
                );
                for deed in ["move", "switch", "release"] {
                    assert!(text.contains(&format!("/{deed}?session=0198f")));
                }
                let is_told = text.contains("&lt;gw1&gt; does not answer");
                assert_eq!(is_told, state.class() == "bad", "{state:?}");
            }
        }
    }
}
