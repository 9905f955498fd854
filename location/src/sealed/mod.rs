//! Sealed location ids: the encrypted, tamper-evident text that a sticker or request carries.

mod hpke;
mod keyring;
mod legacy;

pub use self::hpke::{HpkeError, KeyError, KeyId, OpeningKey, SealingKey};
pub use self::keyring::{Form, Keyring, OpenError, Opened};
pub use self::legacy::{LegacyError, LegacyKey};
