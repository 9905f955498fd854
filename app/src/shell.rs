//! The page around a page.

use doorstep_web::assets;
use maud::{DOCTYPE, Markup, html};

use crate::language::Language;
use crate::words::Words;

/// What a page is like, apart from what is on it.
#[derive(Clone, Copy, Debug)]
pub struct Shell<'a> {
    pub language: Language,
    pub title: &'a str,
    /// The page's own address, for the same in another language; of an answer to a form the form's.
    pub here: &'a str,
    /// What tells by server-sent events that something has changed; none: the page stays as it is.
    pub events: Option<&'a str>,
    /// Whether a browser without scripts looks again by itself.
    pub is_waiting: bool,
}

/// After so many seconds a browser without scripts looks again.
const LOOK_AGAIN_S: u32 = 5;

impl Shell<'_> {
    #[must_use]
    pub fn words(&self) -> &'static Words {
        self.language.words()
    }

    /// What changes by itself stands in `live`, all else in `rest` below it.
    #[must_use]
    pub fn render(&self, live: &Markup, rest: &Markup) -> Markup {
        let words = &self.words().shell;
        html! {
            (DOCTYPE)
            html lang=(self.words().tag) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) @if self.title != words.application { " – " (words.application) } }
                    link rel="icon" href=(assets::ICON) type="image/svg+xml";
                    link rel="stylesheet" href=(assets::STYLE);
                    link rel="stylesheet" href=(assets::APP_STYLE);
                    script src=(assets::SCRIPT) defer {}
                    @if self.is_waiting {
                        noscript { meta http-equiv="refresh" content=(LOOK_AGAIN_S); }
                    }
                }
                body.app data-events=[self.events] {
                    a.skip href="#main" { (words.skip) }
                    header {
                        p.application { a href="/" { (words.application) } }
                        (self.languages())
                    }
                    main #main tabindex="-1" {
                        h1 { (self.title) }
                        div #live { (live) }
                        (rest)
                    }
                    @if self.events.is_some() {
                        p #news role="status" data-live=(words.live) data-lost=(words.lost) {}
                    }
                }
            }
        }
    }

    fn languages(&self) -> Markup {
        let mark = if self.here.contains('?') { '&' } else { '?' };
        html! {
            nav.person aria-label=(self.words().shell.language) {
                @for language in Language::ALL.into_iter().filter(|other| *other != self.language) {
                    a id={ "in-" (language.code()) } lang=(language.words().tag)
                        href={ (self.here) (mark) "language=" (language.code()) } { (language.name()) }
                }
            }
        }
    }
}

/// Back to where one began.
#[must_use]
pub fn home_link(words: &Words) -> Markup {
    html! { p.actions { a.button.plain href="/" { (words.shell.back) } } }
}

/// A notice of what went wrong.
#[must_use]
pub fn bad(text: &str) -> Markup {
    html! { p.notice.bad role="alert" { (text) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_escapes_loads_nothing_else_and_leads_to_the_other_language() {
        for (language, other) in [(Language::Chinese, "en"), (Language::English, "zh")] {
            let shell = Shell {
                language,
                title: "<b>",
                here: "/connect?operator=a&b",
                events: Some("/events"),
                is_waiting: true,
            };
            let text = shell.render(&html! {}, &html! {}).into_string();
            assert!(text.contains("<h1>&lt;b&gt;</h1>"));
            assert!(text.contains(&format!("/connect?operator=a&amp;b&amp;language={other}")));
            for inline in [" style=", " onclick=", "<style", "javascript:", "://"] {
                assert!(!text.contains(inline), "{inline}");
            }
        }
    }
}
