//! All that is said, in each language. A language that lacks a text does not compile.

mod chinese;
mod english;

pub use chinese::CHINESE;
pub use english::ENGLISH;

pub struct Words {
    /// BCP 47
    pub tag: &'static str,
    pub shell: Shell,
    pub home: Home,
    pub states: States,
    pub deeds: Deeds,
    pub location: Location,
    pub register: Register,
    pub choice: Choice,
    pub confirm: Confirm,
    pub steps: Steps,
    pub problems: Problems,
}

/// Around each page.
pub struct Shell {
    pub application: &'static str,
    pub skip: &'static str,
    pub language: &'static str,
    pub live: &'static str,
    pub lost: &'static str,
    pub back: &'static str,
}

pub struct Home {
    pub title: &'static str,
    /// Nothing is connected yet.
    pub welcome: &'static str,
    pub how: &'static str,
    pub online: &'static str,
    pub not_online: &'static str,
    pub under_way: &'static str,
    pub operator: &'static str,
    pub address: &'static str,
    pub since: &'static str,
    pub change: &'static str,
    pub at_cable: &'static str,
}

/// What is the matter, in a word, and what that means for whoever waits.
pub struct Said {
    pub name: &'static str,
    pub means: &'static str,
}

pub struct States {
    pub waiting: Said,
    pub requested: Said,
    pub accepted: Said,
    pub connecting: Said,
    pub establishing: Said,
    pub bringing_up: Said,
    pub accepting: Said,
    pub established: Said,
    pub disconnecting: Said,
    pub unconfirmed: Said,
    pub releasing: Said,
    pub released: Said,
    pub refused: Said,
    pub silent: Said,
    pub failed: Said,
}

/// Something that can be done.
pub struct Done {
    /// On the button.
    pub name: &'static str,
    /// Above the page where one begins.
    pub title: &'static str,
    /// Above the page that asks once more.
    pub question: &'static str,
    /// What will happen.
    pub happens: &'static str,
    /// Above its steps.
    pub under_way: &'static str,
    /// When it has come off.
    pub well: &'static str,
}

pub struct Deeds {
    pub connect: Done,
    pub relocate: Done,
    pub additional: Done,
    pub switch: Done,
    pub release: Done,
}

pub struct Location {
    pub where_it_is: &'static str,
    pub photograph: &'static str,
    pub photograph_hint: &'static str,
    pub no_camera: &'static str,
    pub or: &'static str,
    pub write: &'static str,
    pub write_hint: &'static str,
    pub same: &'static str,
    pub go_on: &'static str,
}

pub struct Register {
    pub title: &'static str,
    pub why: &'static str,
    pub at: &'static str,
    pub phone: &'static str,
    pub or: &'static str,
    pub id_card: &'static str,
    pub privacy: &'static str,
    pub send: &'static str,
    pub code_title: &'static str,
    pub code_sent: &'static str,
    pub code: &'static str,
    pub code_wrong: &'static str,
    pub refused: &'static str,
    pub known: &'static str,
    pub nothing_given: &'static str,
}

pub struct Choice {
    pub operator: &'static str,
    pub registered: &'static str,
    pub plan: &'static str,
    pub own_plan: &'static str,
    pub unlimited: &'static str,
    pub down: &'static str,
    pub up: &'static str,
}

pub struct Confirm {
    pub door: &'static str,
    pub connection: &'static str,
    pub operator: &'static str,
    pub plan: &'static str,
    pub back: &'static str,
}

pub struct Steps {
    pub at_s: &'static str,
    pub failed: &'static str,
    pub detail: &'static str,
    pub stands: &'static str,
    pub again: &'static str,
    pub home: &'static str,
}

pub struct Problems {
    pub title: &'static str,
    pub forged: &'static str,
    pub nowhere: &'static str,
    pub gone: &'static str,
    pub busy: &'static str,
    pub stopping: &'static str,
    pub failed: &'static str,
    pub unreached: &'static str,
    pub too_large: &'static str,
    pub not_a_picture: &'static str,
    pub no_code: &'static str,
    pub several_codes: &'static str,
    pub no_location: &'static str,
    pub not_a_location: &'static str,
    pub bad_form: &'static str,
}

#[cfg(test)]
mod tests {
    use crate::deed::Deed;
    use crate::language::Language;
    use crate::state::State;

    /// Whatever else is said, these are what one looks at: each tells itself from the others.
    #[test]
    fn states_and_deeds_have_names_of_their_own() {
        for language in Language::ALL {
            let words = language.words();
            let states = State::ALL.map(|state| state.said(&words.states).name);
            let deeds = Deed::ALL.map(|deed| deed.words(&words.deeds).name);
            for names in [&states[..], &deeds[..]] {
                for (at, name) in names.iter().enumerate() {
                    assert!(!name.is_empty());
                    assert!(!names[..at].contains(name), "{name}");
                }
            }
        }
    }
}
