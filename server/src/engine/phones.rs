//! Subscribers' phones: what one shows to be known again, and who may get it.
//!
//! What a phone keeps is sealed by the identity keys, so that every server of the operator knows it, also
//! after a restart, and no table of phones is needed. It says whose it is and since when. It is void once
//! it has not been used for long, once the subscriber signs all phones out, once the operator gives them
//! a new secret, and once the key that sealed it is retired.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::bulk::one_owner;
use super::{Engine, EngineError, Result, now_ms};
use crate::identity::{IdCard, Phone};
use crate::store::Who;
use crate::vault::Purpose;

/// For how long a code may be entered that the operator has sent.
pub const CODE_MS: i64 = 15 * 60 * 1000;
/// What a phone keeps is made anew when it is used and older than that.
const RENEWED_AFTER_MS: i64 = 24 * 3600 * 1000;

/// Whose a phone is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    pub subscriber: Uuid,
    /// What the phone is to keep from now on instead.
    pub renewed: Option<String>,
}

impl Engine {
    /// What a subscriber's phone keeps.
    pub async fn sign_in_phone(&self, subscriber: Uuid) -> Result<String> {
        let row = self.store.subscriber(subscriber).await?;
        let row = row.ok_or(EngineError::Unauthenticated)?;
        self.phone_token(subscriber, row.subscriber.phones_ms)
    }

    /// Another server's clock may be ahead.
    fn phone_token(&self, subscriber: Uuid, void_ms: i64) -> Result<String> {
        let since_ms = now_ms().max(void_ms.saturating_add(1));
        let purpose = Purpose::PhoneToken;
        let sealed = self
            .vault()
            .seal(purpose, subscriber, &since_ms.to_be_bytes())?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode([subscriber.as_bytes().as_slice(), &sealed].concat()))
    }

    /// Whose phone shows this; none: nobody's, or not any more.
    pub async fn whose_phone(&self, token: &str, idle: Duration) -> Result<Option<SignedIn>> {
        let Some((subscriber, since_ms)) = self.opened(token) else {
            return Ok(None);
        };
        let age_ms = now_ms().saturating_sub(since_ms);
        if u128::from(age_ms.max(0).unsigned_abs()) > idle.as_millis() {
            return Ok(None);
        }
        // One that has just been made may not be written yet: `None` is not a refusal that is kept.
        let row = self.store.subscriber(subscriber).await?;
        let Some(row) = row.filter(|row| row.subscriber.phones_ms < since_ms) else {
            return Ok(None);
        };
        let renewed = (age_ms > RENEWED_AFTER_MS)
            .then(|| self.phone_token(subscriber, row.subscriber.phones_ms))
            .transpose()?;
        Ok(Some(SignedIn {
            subscriber,
            renewed,
        }))
    }

    fn opened(&self, token: &str) -> Option<(Uuid, i64)> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (subscriber, sealed) = bytes.split_first_chunk()?;
        let subscriber = Uuid::from_bytes(*subscriber);
        let opened = self.vault().open(Purpose::PhoneToken, subscriber, sealed);
        let since_ms = i64::from_be_bytes(opened.ok()?.as_slice().try_into().ok()?);
        Some((subscriber, since_ms))
    }

    /// Has all of a subscriber's phones sign in again.
    pub async fn sign_out_phones(&self, subscriber: Uuid) -> Result<()> {
        let at_ms = now_ms();
        self.store
            .change_if_not_busy(move |work| {
                if !work.set_phones_ms(subscriber, at_ms)? {
                    return Err(EngineError::Unauthenticated);
                }
                let who = Who::Subscriber;
                work.audit(who, "sign-out-phones", Some(subscriber), None, "", at_ms);
                Ok(())
            })
            .await
    }

    /// What no page of somebody else's knows, and each form of a subscriber's has.
    #[must_use]
    pub fn phone_proof(&self, subscriber: Uuid) -> String {
        let index = self
            .vault()
            .index(Purpose::PhoneToken, &subscriber.to_string());
        BASE64_URL_SAFE_NO_PAD.encode(index)
    }

    /// That the operator has sent a code to whoever has these numbers, for the browser to keep until the code
    /// is entered.
    pub fn code_sent(&self, phone: Option<&Phone>, id_card: Option<&IdCard>) -> Result<String> {
        let texts = [phone.map(Phone::as_str), id_card.map(IdCard::as_str)];
        let [phone, id_card] = texts.map(Option::unwrap_or_default);
        let mut value = Zeroizing::new(now_ms().to_be_bytes().to_vec());
        value.extend_from_slice(format!("{phone}\n{id_card}").as_bytes());
        let sealed = self.vault().seal(Purpose::CodeSent, Uuid::nil(), &value)?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Whose code that is, if it was sent not long ago.
    #[must_use]
    pub fn numbers_of_code(&self, sent: &str) -> Option<(Option<Phone>, Option<IdCard>)> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(sent).ok()?;
        let opened = self.vault().open(Purpose::CodeSent, Uuid::nil(), &sealed);
        let opened = opened.ok()?;
        let (at_ms, texts) = opened.split_first_chunk()?;
        let age_ms = now_ms().saturating_sub(i64::from_be_bytes(*at_ms));
        if !(-CODE_MS..=CODE_MS).contains(&age_ms) {
            return None;
        }
        let (phone, id_card) = std::str::from_utf8(texts).ok()?.split_once('\n')?;
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some((
            given(phone).map(Phone::from_stored),
            given(id_card).map(IdCard::from_stored),
        ))
    }

    /// By what attempts with numbers are counted.
    #[must_use]
    pub fn number_key(&self, phone: Option<&Phone>, id_card: Option<&IdCard>) -> [u8; 32] {
        let mut digest = Sha256::new();
        for text in [phone.map(Phone::as_str), id_card.map(IdCard::as_str)] {
            let text = text.unwrap_or_default();
            digest.update(text.len().to_be_bytes());
            digest.update(text);
        }
        digest.finalize().into()
    }

    /// Whether this names a home that the operator serves.
    #[must_use]
    pub fn is_door(&self, sealed: &str) -> bool {
        let opened = self.keyring.open(sealed);
        opened.is_ok_and(|opened| self.config.gateway_for(&opened.location).is_some())
    }

    /// Whose these numbers are, who has just proved that they are theirs; written down, for they may change
    /// what is the subscriber's from now on.
    pub async fn known_owner(
        self: &Arc<Self>,
        phone: Option<&Phone>,
        id_card: Option<&IdCard>,
    ) -> Result<Option<Uuid>> {
        let numbers = self.claims(phone, id_card);
        let owners = self.owners(std::slice::from_ref(&numbers)).await?;
        let Some(subscriber) = one_owner(&numbers, &owners)? else {
            return Ok(None);
        };
        self.store
            .change_if_not_busy(move |work| {
                let (who, at_ms) = (Who::Subscriber, now_ms());
                work.audit(who, "sign-in-phone", Some(subscriber), None, "", at_ms);
                Ok::<_, EngineError>(Some(subscriber))
            })
            .await
    }
}
