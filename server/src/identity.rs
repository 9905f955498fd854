//! Phone and ID-card numbers: checked, brought to one form, and masked for people to see.
//!
//! Neither type shows its value by `Debug`, and no error carries it.

use std::fmt;

use zeroize::ZeroizeOnDrop;

/// A phone number: digits, with a leading `+` in the international form.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Phone(String);

/// An ID-card number after GB 11643: 18 characters with a valid birth date and check digit.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct IdCard(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    #[error("it must have 5 to 15 digits, with its country code")]
    Length,
    #[error(
        "it may hold only digits, spaces, hyphens, dots and parentheses, after an optional `+`"
    )]
    Character,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdCardError {
    #[error("it must have 18 characters (GB 11643)")]
    Length,
    #[error("it must be 17 digits and a check character, a digit or X (GB 11643)")]
    Character,
    #[error("characters 7 to 14 are not a date of birth")]
    BirthDate,
    #[error("the check character is wrong: a digit was mistyped or two were swapped")]
    CheckDigit,
}

impl Phone {
    /// Longest input looked at: 15 digits with generous punctuation.
    const MAX_INPUT_LEN: usize = 40;

    /// Reads a number as people write it. `country_code` (digits) turns national numbers into
    /// international ones, so that both spellings are the same person.
    pub fn parse(text: &str, country_code: Option<&str>) -> Result<Self, PhoneError> {
        let text = text.trim();
        if text.len() > Self::MAX_INPUT_LEN {
            return Err(PhoneError::Length);
        }
        let (mut international, rest) = match text.strip_prefix('+') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut digits = String::with_capacity(Self::MAX_INPUT_LEN);
        for character in rest.chars() {
            match character {
                '0'..='9' => digits.push(character),
                ' ' | '-' | '.' | '(' | ')' => {}
                _ => return Err(PhoneError::Character),
            }
        }
        // Wherever punctuation stands in it, 00 is a + that is dialled.
        if !international && digits.starts_with("00") {
            international = true;
            digits.drain(..2);
        }
        // With its country code, too, a number has at most 15 digits (E.164, section 6).
        let code = match (international, country_code) {
            (false, Some(code)) => code.len(),
            _ => 0,
        };
        if digits.len() < 5 || digits.len() + code > 15 {
            return Err(PhoneError::Length);
        }
        Ok(Phone(match (international, country_code) {
            (true, _) => format!("+{digits}"),
            (false, Some(code)) => format!("+{code}{digits}"),
            (false, None) => digits,
        }))
    }

    /// A number that `parse` made before.
    pub fn from_stored(text: String) -> Self {
        Phone(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `138****0000`: enough to tell customers apart on the phone, too little to call one.
    pub fn masked(&self) -> String {
        let length = self.0.len();
        if length >= 11 {
            format!("{}****{}", &self.0[..length - 8], &self.0[length - 4..])
        } else {
            format!("****{}", &self.0[length.saturating_sub(2)..])
        }
    }
}

impl IdCard {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    const CHECK: &'static [u8; 11] = b"10X98765432";

    pub fn parse(text: &str) -> Result<Self, IdCardError> {
        let text = text.trim();
        if text.chars().count() != 18 {
            return Err(IdCardError::Length);
        }
        let upper = text.to_ascii_uppercase();
        let bytes = upper.as_bytes();
        if bytes.len() != 18
            || !bytes[..17].iter().all(u8::is_ascii_digit)
            || !(bytes[17].is_ascii_digit() || bytes[17] == b'X')
        {
            return Err(IdCardError::Character);
        }
        if !is_date(&upper[6..14]) {
            return Err(IdCardError::BirthDate);
        }
        let sum: u32 = bytes[..17]
            .iter()
            .zip(Self::WEIGHTS)
            .map(|(byte, weight)| u32::from(byte - b'0') * weight)
            .sum();
        if Self::CHECK[(sum % 11) as usize] != bytes[17] {
            return Err(IdCardError::CheckDigit);
        }
        Ok(IdCard(upper))
    }

    /// A number that `parse` made before.
    pub fn from_stored(text: String) -> Self {
        IdCard(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn masked(&self) -> String {
        let length = self.0.len();
        format!(
            "{}*************{}",
            &self.0[..length.min(3)],
            &self.0[length.saturating_sub(2)..]
        )
    }
}

fn is_date(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().unwrap_or(0);
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    let Some(month) = u8::try_from(month)
        .ok()
        .and_then(|month| time::Month::try_from(month).ok())
    else {
        return false;
    };
    (1800..=2999).contains(&year) && (1..=u32::from(month.length(year as i32))).contains(&day)
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phone(hidden)")
    }
}

impl fmt::Debug for IdCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdCard(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_are_brought_to_one_form() {
        let cases = [
            ("13800000000", None, Ok("13800000000")),
            ("138-0000-0000", None, Ok("13800000000")),
            ("+86 138 0000 0000", None, Ok("+8613800000000")),
            ("0086 13800000000", None, Ok("+8613800000000")),
            ("13800000000", Some("86"), Ok("+8613800000000")),
            ("(0086) 13800000000", Some("86"), Ok("+8613800000000")),
            ("0-086 13800000000", None, Ok("+8613800000000")),
            ("1234", None, Err(PhoneError::Length)),
            ("1234567890123456", None, Err(PhoneError::Length)),
            ("12345678901234", Some("86"), Err(PhoneError::Length)),
            ("1234567890123", Some("86"), Ok("+861234567890123")),
            ("138O0000000", None, Err(PhoneError::Character)),
            ("138+00000000", None, Err(PhoneError::Character)),
            ("１３８００００００００", None, Err(PhoneError::Character)),
        ];
        for (text, code, want) in cases {
            let got = Phone::parse(text, code);
            assert_eq!(
                got.as_ref().map(Phone::as_str).map_err(|error| *error),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn id_cards_are_checked() {
        let cases = [
            ("11010519491231002X", Ok("11010519491231002X")),
            ("11010519491231002x", Ok("11010519491231002X")),
            ("440524188001010014", Ok("440524188001010014")),
            ("110105194912310021", Err(IdCardError::CheckDigit)),
            ("11010591491231002X", Err(IdCardError::BirthDate)),
            ("11010519490231002X", Err(IdCardError::BirthDate)),
            ("1101051949123100X2", Err(IdCardError::Character)),
            ("11010519491231002", Err(IdCardError::Length)),
            ("", Err(IdCardError::Length)),
        ];
        for (text, want) in cases {
            let got = IdCard::parse(text);
            assert_eq!(
                got.as_ref().map(IdCard::as_str).map_err(|error| *error),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn masks_hide_the_middle_and_debug_hides_all() {
        let phone = Phone::parse("13812340000", None).unwrap();
        assert_eq!(phone.masked(), "138****0000");
        assert_eq!(
            Phone::parse("+8613812340000", None).unwrap().masked(),
            "+86138****0000"
        );
        assert_eq!(Phone::parse("12345", None).unwrap().masked(), "****45");
        let card = IdCard::parse("11010519491231002X").unwrap();
        assert_eq!(card.masked(), "110*************2X");
        assert!(!format!("{phone:?} {card:?}").contains(char::is_numeric));
    }
}
