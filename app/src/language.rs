//! Which language somebody reads.

use crate::words::{CHINESE, ENGLISH, Words};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Chinese,
    English,
}

impl Language {
    pub const ALL: [Language; 2] = [Language::Chinese, Language::English];

    /// As addresses and cookies have it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Language::Chinese => "zh",
            Language::English => "en",
        }
    }

    /// By its own speakers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Language::Chinese => "中文",
            Language::English => "English",
        }
    }

    #[must_use]
    pub fn words(self) -> &'static Words {
        match self {
            Language::Chinese => &CHINESE,
            Language::English => &ENGLISH,
        }
    }

    /// Of a code.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|language| language.code() == code)
    }

    /// The one that a browser's `Accept-Language` prefers (RFC 9110, 12.5.4); English if it names
    /// neither.
    #[must_use]
    pub fn accepted(header: &str) -> Self {
        let mut best = (Language::English, 0);
        for part in header.split(',') {
            let mut parts = part.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let primary = tag.split('-').next().unwrap_or_default();
            let language = Self::of(&primary.to_ascii_lowercase());
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight = weight.map_or(Some(1000), thousandths).unwrap_or(0);
            // Of equal ones the first.
            if let Some(language) = language
                && weight > best.1
            {
                best = (language, weight);
            }
        }
        best.0
    }
}

fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.get(..3).unwrap_or(fraction);
    let fraction: u32 = format!("{digits:0<3}").parse().ok()?;
    Some(whole.parse::<u32>().ok()?.min(1) * 1000 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_one_is_taken() {
        for (header, language) in [
            ("", Language::English),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
            ("en-GB,en;q=0.9,zh;q=0.8", Language::English),
            ("de-DE,de;q=0.9,zh-TW;q=0.5,en;q=0.4", Language::Chinese),
            ("fr", Language::English),
            ("zh;q=0,fr", Language::English),
            ("en;q=0.25,ZH-Hans;q=0.251", Language::Chinese),
            ("zh;q=x", Language::English),
            (";;;,,q=", Language::English),
        ] {
            assert_eq!(Language::accepted(header), language, "{header:?}");
        }
    }

    #[test]
    fn codes_lead_back() {
        for language in Language::ALL {
            assert_eq!(Language::of(language.code()), Some(language));
            assert!(language.words().tag.starts_with(language.code()));
        }
        assert_eq!(Language::of("de"), None);
    }
}
