//! The page around a page's own content.

use maud::{DOCTYPE, Markup, html};

use crate::assets;

/// A page to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Whose pages these are, such as `north-net console`.
    pub application: &'a str,
    pub title: &'a str,
    /// Where else one can go; empty for who is not signed in.
    pub places: &'a [Place<'a>],
    pub person: Option<Person<'a>>,
    /// What tells by server-sent events that something has changed; none: the page stays as it is.
    pub events: Option<&'a str>,
}

/// An entry of the navigation.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub path: &'a str,
    pub name: &'a str,
    pub is_here: bool,
}

/// Who is signed in.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    pub name: &'a str,
    /// What they may do, in a word.
    pub role: &'a str,
    /// Their own page.
    pub own: &'a str,
    /// Where a form that signs them out goes.
    pub sign_out: &'a str,
    pub csrf: &'a str,
}

/// The name of the field that each form has its session's token in.
pub const CSRF: &str = "csrf";

/// The field that proves that a form is ours.
#[must_use]
pub fn csrf(token: &str) -> Markup {
    html! { input type="hidden" name=(CSRF) value=(token); }
}

impl Page<'_> {
    /// What changes by itself stands in `live`, all else in `rest` below it.
    #[must_use]
    pub fn render(&self, live: &Markup, rest: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " – " (self.application) }
                    link rel="icon" href=(assets::ICON) type="image/svg+xml";
                    link rel="stylesheet" href=(assets::STYLE);
                    script src=(assets::SCRIPT) defer {}
                }
                body data-events=[self.events] {
                    a.skip href="#main" { "Skip to the content" }
                    (self.head())
                    main #main tabindex="-1" {
                        h1 { (self.title) }
                        div #live { (live) }
                        (rest)
                    }
                    @if self.events.is_some() {
                        p #news role="status" {}
                    }
                }
            }
        }
    }

    fn head(&self) -> Markup {
        html! {
            header {
                p.application { (self.application) }
                @if !self.places.is_empty() {
                    nav aria-label="Main" {
                        ul {
                            @for place in self.places {
                                li {
                                    a href=(place.path) aria-current=[place.is_here.then_some("page")] {
                                        (place.name)
                                    }
                                }
                            }
                        }
                    }
                }
                @if let Some(person) = &self.person {
                    form.person method="post" action=(person.sign_out) {
                        (csrf(person.csrf))
                        a href=(person.own) { (person.name) " · " (person.role) }
                        " "
                        button.plain type="submit" { "Sign out" }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_are_called_is_no_markup() {
        let places = [Place {
            path: "/",
            name: "Overview",
            is_here: true,
        }];
        let page = Page {
            application: "north-net",
            title: "<b>",
            places: &places,
            person: Some(Person {
                name: "\"><script>",
                role: "viewer",
                own: "/own",
                sign_out: "/sign-out",
                csrf: "token",
            }),
            events: Some("/events"),
        };
        let text = page.render(&html! {}, &html! {}).into_string();
        assert!(text.starts_with("<!DOCTYPE html>"));
        assert!(text.contains("<h1>&lt;b&gt;</h1>"));
        assert!(!text.contains("\"><script>"));
        assert!(text.contains("aria-current=\"page\""));
        assert!(text.contains("data-events=\"/events\""));
        // No policy would let these be run or used.
        for inline in [" style=", " onclick=", "<style", "javascript:"] {
            assert!(!text.contains(inline), "{inline}");
        }
    }
}
