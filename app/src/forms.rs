//! What one fills in, chooses and confirms.

use doorstep_web::page::csrf;
use maud::{Markup, html};

use crate::deed::Deed;
use crate::shell::{bad, home_link};
use crate::words::Words;

/// What is meant to be done, as far as it is known yet. Empty: not chosen, or nothing to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant<'a> {
    pub deed: Deed,
    pub session: &'a str,
    pub operator: &'a str,
    pub plan: &'a str,
    /// Whether there are operators to tell apart.
    pub are_several: bool,
}

impl Meant<'_> {
    /// The address where it is gone on with. Values are of letters, digits, `-` and `_`, or encoded.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = format!("/{}", self.deed.path());
        let fields = [
            ("session", self.session),
            ("operator", self.operator),
            ("plan", self.plan),
        ];
        let mut mark = '?';
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            path.push(mark);
            path.push_str(name);
            path.push('=');
            for byte in value.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    path.push(char::from(byte));
                } else {
                    path.push_str(&format!("%{byte:02X}"));
                }
            }
            mark = '&';
        }
        path
    }

    fn hidden(&self) -> Markup {
        html! {
            input type="hidden" name="session" value=(self.session);
            input type="hidden" name="operator" value=(self.operator);
            input type="hidden" name="plan" value=(self.plan);
        }
    }
}

/// An operator that one may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator<'a> {
    pub name: &'a str,
    pub is_registered: bool,
}

#[must_use]
pub fn operators(words: &Words, meant: &Meant<'_>, operators: &[Operator<'_>]) -> Markup {
    html! {
        p.lead { (words.choice.operator) }
        ul.choices {
            @for operator in operators {
                li {
                    a.button.big.plain data-operator=(operator.name)
                        href=(Meant { operator: operator.name, ..meant.clone() }.path()) {
                        strong { (operator.name) }
                        @if operator.is_registered { br; span { (words.choice.registered) } }
                    }
                }
            }
        }
        (home_link(words))
    }
}

/// A plan that one may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    pub name: &'a str,
    /// For people; may be empty.
    pub title: &'a str,
    /// In words; may be empty.
    pub price: &'a str,
    /// Bits per second; 0: unlimited.
    pub upstream_bps: u64,
    pub downstream_bps: u64,
    /// What one has when one chooses nothing.
    pub is_own: bool,
}

#[must_use]
pub fn plans(words: &Words, meant: &Meant<'_>, plans: &[Plan<'_>]) -> Markup {
    html! {
        p.lead { (words.choice.plan) }
        ul.choices {
            @for plan in plans {
                li {
                    a.button.big.plain[!plan.is_own] data-plan=(plan.name)
                        href=(Meant { plan: plan.name, ..meant.clone() }.path()) {
                        strong { @if plan.title.is_empty() { (plan.name) } @else { (plan.title) } }
                        @if !plan.price.is_empty() { " · " (plan.price) }
                        br;
                        span {
                            (words.choice.down) " " (rate(words, plan.downstream_bps)) ", "
                            (words.choice.up) " " (rate(words, plan.upstream_bps))
                            @if plan.is_own { " · " (words.choice.own_plan) }
                        }
                    }
                }
            }
        }
        (home_link(words))
    }
}

/// `100 Mbit/s`
fn rate(words: &Words, bps: u64) -> String {
    let units = [
        (1_000_000_000, "Gbit/s"),
        (1_000_000, "Mbit/s"),
        (1_000, "kbit/s"),
    ];
    if bps == 0 {
        return words.choice.unlimited.to_owned();
    }
    let unit = units.into_iter().find(|(size, _)| bps >= *size);
    let Some((size, unit)) = unit else {
        return format!("{bps}\u{a0}bit/s");
    };
    let tenths = bps * 10 / size;
    match tenths % 10 {
        0 => format!("{}\u{a0}{unit}", tenths / 10),
        tenth => format!("{}.{tenth}\u{a0}{unit}", tenths / 10),
    }
}

/// Where one is: by a picture, by hand, or as last time.
#[must_use]
pub fn location(
    words: &Words,
    meant: &Meant<'_>,
    token: &str,
    has_last: bool,
    problem: Option<&str>,
) -> Markup {
    let said = &words.location;
    html! {
        @if let Some(problem) = problem { (bad(problem)) }
        p { (said.where_it_is) }
        form.fields method="post" action={ "/" (meant.deed.path()) "/door" } enctype="multipart/form-data" {
            (csrf(token))
            (meant.hidden())
            label.card {
                strong { (said.photograph) }
                span.faint { (said.photograph_hint) " " (said.no_camera) }
                input #picture type="file" name="picture" accept="image/jpeg,image/png" capture="environment";
            }
            label.card {
                strong { (said.or) " " (said.write) }
                textarea #location name="location" rows="3" autocapitalize="none" autocomplete="off"
                    spellcheck="false" maxlength="2000" aria-describedby="location-hint" {}
                span.faint #location-hint { (said.write_hint) }
            }
            button.big #go-on type="submit" { (said.go_on) }
            @if has_last {
                button.big.plain #same type="submit" name="same" value="yes" { (said.same) }
            }
        }
        (home_link(words))
    }
}

/// Asks once more.
#[must_use]
pub fn confirm(
    words: &Words,
    meant: &Meant<'_>,
    token: &str,
    door: &str,
    target: &Markup,
) -> Markup {
    let done = meant.deed.words(&words.deeds);
    let is_dangerous = meant.deed == Deed::Release;
    html! {
        (target)
        form.fields.card method="post" action={ "/" (meant.deed.path()) } {
            (csrf(token))
            (meant.hidden())
            input type="hidden" name="door" value=(door);
            dl.facts {
                @if meant.are_several {
                    dt { (words.confirm.operator) }
                    dd { (meant.operator) }
                }
                @if !meant.plan.is_empty() {
                    dt { (words.confirm.plan) }
                    dd { (meant.plan) }
                }
                @if !door.is_empty() {
                    dt { (words.confirm.door) }
                    dd { code { (shortened(door)) } }
                }
            }
            p { (done.happens) }
            button.big.danger[is_dangerous] #confirm type="submit" autofocus { (done.name) }
            a.button.big.plain href="/" { (words.confirm.back) }
        }
    }
}

/// Enough of a seal to tell one from another.
fn shortened(door: &str) -> String {
    const ENDS: usize = 8;
    let chars: Vec<char> = door.chars().collect();
    if chars.len() <= 2 * ENDS + 1 {
        return door.to_owned();
    }
    let begin: String = chars[..ENDS].iter().collect();
    let end: String = chars[chars.len() - ENDS..].iter().collect();
    format!("{begin}…{end}")
}

/// Who one is.
#[must_use]
pub fn register(words: &Words, meant: &Meant<'_>, token: &str, problem: Option<&Markup>) -> Markup {
    let said = &words.register;
    html! {
        @if let Some(problem) = problem { (problem) }
        p { (said.why) @if meant.are_several { " " (said.at) ": " strong { (meant.operator) } } }
        form.fields method="post" action={ "/register/" (meant.deed.path()) } {
            (csrf(token))
            (meant.hidden())
            label.card {
                strong { (said.phone) }
                input #phone name="phone" type="tel" inputmode="tel" autocomplete="tel" maxlength="32";
            }
            details #by-card {
                summary { (said.or) ": " (said.id_card) }
                label {
                    strong { (said.id_card) }
                    input #id-card name="id_card" autocapitalize="characters" autocomplete="off"
                        spellcheck="false" maxlength="32";
                }
            }
            p.faint { (said.privacy) }
            button.big #go-on type="submit" { (said.send) }
        }
        (home_link(words))
    }
}

/// The code that the operator has sent.
#[must_use]
pub fn code(words: &Words, meant: &Meant<'_>, token: &str) -> Markup {
    let said = &words.register;
    html! {
        p { (said.code_sent) }
        form.fields method="post" action={ "/register/" (meant.deed.path()) "/code" } {
            (csrf(token))
            (meant.hidden())
            label.card {
                strong { (said.code) }
                input #code name="code" inputmode="numeric" autocomplete="one-time-code" required autofocus
                    maxlength="32";
            }
            button.big #go-on type="submit" { (said.send) }
        }
        (home_link(words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Language;
    use crate::words::ENGLISH;

    fn meant(deed: Deed) -> Meant<'static> {
        Meant {
            deed,
            session: "0198f",
            operator: "north",
            plan: "",
            are_several: true,
        }
    }

    #[test]
    fn what_is_chosen_goes_on_with_the_address() {
        let all = [
            ("a b&c", "/move?session=a%20b%26c&operator=north"),
            ("", "/move?operator=north"),
        ];
        for (session, path) in all {
            let meant = Meant {
                session,
                ..meant(Deed::Move)
            };
            assert_eq!(meant.path(), path);
        }
    }

    #[test]
    fn every_form_is_ours_and_says_what_it_is_about() {
        let meant = meant(Deed::Switch);
        for language in Language::ALL {
            let words = language.words();
            for form in [
                location(words, &meant, "token", true, Some("<b>")),
                confirm(words, &meant, "token", "d1.AAAA", &html! {}),
                register(words, &meant, "token", None),
                code(words, &meant, "token"),
            ] {
                let text = form.into_string();
                assert_eq!(text.matches("<form").count(), 1, "{text}");
                assert!(text.contains("name=\"csrf\" value=\"token\""), "{text}");
                assert!(text.contains("name=\"session\" value=\"0198f\""), "{text}");
                assert!(text.contains("method=\"post\""), "{text}");
                assert!(!text.contains("<b>"), "{text}");
            }
        }
    }

    #[test]
    fn a_long_seal_is_told_by_its_ends() {
        let door = format!("d1.{}", "A".repeat(140) + "xyz");
        assert_eq!(shortened(&door), "d1.AAAAA…AAAAAxyz");
        assert_eq!(shortened("d1.x"), "d1.x");
    }

    #[test]
    fn rates_are_short() {
        for (bps, text) in [
            (0, "unlimited"),
            (100_000_000, "100\u{a0}Mbit/s"),
            (1_500_000_000, "1.5\u{a0}Gbit/s"),
            (64_000, "64\u{a0}kbit/s"),
            (12, "12\u{a0}bit/s"),
        ] {
            assert_eq!(rate(&ENGLISH, bps), text);
        }
    }
}
