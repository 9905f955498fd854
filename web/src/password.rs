//! Passwords: hashed with argon2id, and compared so that time tells nothing about accounts.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

use crate::token::Token;

/// Fewest characters.
pub const SHORTEST: usize = 12;
/// Most bytes: what is longer only costs time.
pub const LONGEST: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("a password must have at least {SHORTEST} characters")]
    Short,
    #[error("a password must have at most {LONGEST} bytes")]
    Long,
    #[error("the password cannot be hashed: the system gives no random bytes")]
    Hash,
}

/// The hash of a new password, a PHC string such as `$argon2id$v=19$…`. Takes some dozen milliseconds
/// of a processor, and 19 MiB.
///
/// # Errors
///
/// If the password is too short or too long.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    if password.chars().count() < SHORTEST {
        return Err(PasswordError::Short);
    }
    if password.len() > LONGEST {
        return Err(PasswordError::Long);
    }
    let hash: PasswordHash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|_| PasswordError::Hash)?;
    Ok(hash.to_string())
}

/// Whether a password is the one of this hash. Without a hash it takes as long and is not: whoever asks
/// must not learn whose accounts there are.
#[must_use]
pub fn is_right(password: &str, hash: Option<&str>) -> bool {
    // Of random bytes that are nowhere else.
    static NOBODYS: LazyLock<Option<String>> =
        LazyLock::new(|| self::hash(Token::new().ok()?.as_str()).ok());
    let parsed = hash
        .or(NOBODYS.as_deref())
        .and_then(|hash| PasswordHash::new(hash).ok());
    let Some(parsed) = parsed else { return false };
    // A long one is not hashed at all, whoever's it is.
    password.len() <= LONGEST
        && Argon2::default()
            .verify_password(password.as_bytes(), &parsed)
            .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_one_and_no_other() {
        let hash = hash("correct horse battery").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$"));
        assert!(is_right("correct horse battery", Some(&hash)));
        for wrong in ["", "correct horse batter", "Correct horse battery"] {
            assert!(!is_right(wrong, Some(&hash)), "{wrong}");
        }
        assert!(!is_right("correct horse battery", Some("no hash")));
        assert_ne!(hash, self::hash("correct horse battery").unwrap());
    }

    #[test]
    fn nobody_has_no_password() {
        for guess in ["", "correct horse battery"] {
            assert!(!is_right(guess, None), "{guess}");
        }
    }

    #[test]
    fn lengths_are_checked() {
        for (password, error) in [
            ("elevenchars".to_owned(), PasswordError::Short),
            ("密".repeat(11), PasswordError::Short),
            ("x".repeat(257), PasswordError::Long),
        ] {
            assert_eq!(hash(&password), Err(error));
        }
        assert!(hash(&"密".repeat(12)).is_ok());
        assert!(!is_right(&"x".repeat(1 << 20), None));
    }
}
