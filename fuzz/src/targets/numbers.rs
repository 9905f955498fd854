//! Phone and ID-card numbers.

use doorstep_server::identity::{IdCard, Phone};

use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "numbers",
    about: "phone and ID-card numbers: one form each, masked for people, hidden from logs",
    check,
    seeds,
    shape: Shape::Text,
    words: &["+", "00", "86", "(", ")", "X", "x", "19491231", "29000229"],
    inputs: 20_000,
};

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "13800000000",
        "138-0000-0000",
        "+86 138 0000 0000",
        "0086 13800000000",
        "11010519491231002X",
        "11010519491231002x",
        "440524188001010014",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn check(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    for country_code in [None, Some("86")] {
        if let Ok(phone) = Phone::parse(text, country_code) {
            let kept = phone.as_str();
            let digits = kept.strip_prefix('+').unwrap_or(kept);
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
            let again = Phone::parse(kept, country_code);
            assert!(again.as_ref() == Ok(&phone), "another one once written");
            assert!(hides(&phone.masked(), kept, 4) && !format!("{phone:?}").contains(digits));
        }
    }
    if let Ok(card) = IdCard::parse(text) {
        let kept = card.as_str();
        assert_eq!(kept.len(), 18);
        assert!(IdCard::parse(kept).as_ref() == Ok(&card));
        assert!(hides(&card.masked(), kept, 13) && !format!("{card:?}").contains(&kept[..17]));
    }
}

/// Whether so many characters or more are not shown; of a number that is too short, any three.
fn hides(masked: &str, whole: &str, many: usize) -> bool {
    let shown = masked.chars().filter(|char| *char != '*').count();
    whole.len() >= shown + many.min(whole.len() - 2)
}
