//! The page around a signed-in person's pages.

use doorstep_web::page::{Page, Person, Place};
use maud::Markup;

use super::Console;
use super::user::User;
use crate::account::Right;

/// An entry of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    Overview,
    Sessions,
    Moves,
    Gateways,
    Subscribers,
    Accounts,
    /// A page of one's own, which the navigation does not have.
    Own,
}

impl Here {
    const ALL: [Here; 6] = [
        Here::Overview,
        Here::Sessions,
        Here::Moves,
        Here::Gateways,
        Here::Subscribers,
        Here::Accounts,
    ];

    fn path(self) -> &'static str {
        match self {
            Here::Overview => "/",
            Here::Sessions => "/sessions",
            Here::Moves => "/moves",
            Here::Gateways => "/gateways",
            Here::Subscribers => "/subscribers",
            Here::Accounts => "/accounts",
            Here::Own => "/password",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Here::Overview => "Overview",
            Here::Sessions => "Sessions",
            Here::Moves => "Moves",
            Here::Gateways => "Gateways",
            Here::Subscribers => "Subscribers",
            Here::Accounts => "Accounts",
            Here::Own => "Password",
        }
    }

    fn needs(self) -> Right {
        match self {
            Here::Subscribers => Right::Serve,
            Here::Accounts => Right::Administer,
            Here::Overview | Here::Sessions | Here::Moves | Here::Gateways | Here::Own => {
                Right::Look
            }
        }
    }
}

impl Console {
    /// A page whose part `live` is kept up to date.
    pub fn live_page(&self, user: &User, here: Here, title: &str, live: &Markup) -> Markup {
        self.render(user, here, title, (live, &Markup::default()), true)
    }

    /// A page that stays as it is, such as a form.
    pub fn still_page(&self, user: &User, here: Here, title: &str, content: &Markup) -> Markup {
        self.render(user, here, title, (&Markup::default(), content), false)
    }

    fn render(
        &self,
        user: &User,
        here: Here,
        title: &str,
        (live, rest): (&Markup, &Markup),
        is_live: bool,
    ) -> Markup {
        let places: Vec<_> = Here::ALL
            .into_iter()
            .filter(|place| user.may(place.needs()))
            .map(|place| Place {
                path: place.path(),
                name: place.name(),
                is_here: place == here,
            })
            .collect();
        let page = Page {
            application: &self.application,
            title,
            places: &places,
            person: Some(Person {
                name: user.name.as_str(),
                role: user.role.name(),
                own: Here::Own.path(),
                sign_out: "/sign-out",
                csrf: user.csrf.as_str(),
            }),
            events: is_live.then_some("/events"),
        };
        page.render(live, rest)
    }
}
