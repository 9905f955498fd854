//! Options, before the library reads them.
//!
//! The library takes an option that it cannot read for the end of them, and reads some by the length
//! that their kind should have instead of the one they tell. So it is given no other options than
//! the ones that are read here, and those only with lengths that fit.

use dhcproto::v6::OptionCode;

use super::{Duid, Ignored};

/// Identity associations of one message.
pub(super) const MAX_ASSOCIATIONS: usize = 8;
/// Addresses and prefixes in all of them. More would make an answer that does not fit into the
/// smallest MTU.
pub(super) const MAX_LEASES: usize = 8;

/// Code and length.
const HEADER_LEN: usize = 4;
/// IAID, T1 and T2 (RFC 8415, 21.4 and 21.21).
const ASSOCIATION_LEN: usize = 12;
/// IAID (RFC 8415, 21.5).
const TEMPORARY_LEN: usize = 4;
/// Address and lifetimes (RFC 8415, 21.6).
const ADDRESS_LEN: usize = 24;
/// Lifetimes, length and prefix (RFC 8415, 21.22).
const PREFIX_LEN: usize = 25;
/// Where a prefix has its length.
const PREFIX_LEN_AT: usize = 8;

/// What is left to be taken from a message.
struct Budget {
    associations: usize,
    leases: usize,
}

impl Budget {
    fn take(place: &mut usize) -> Result<(), Ignored> {
        *place = place.checked_sub(1).ok_or(Ignored::TooMany)?;
        Ok(())
    }
}

/// The options of a message that are read here.
pub(super) fn known(options: &[u8]) -> Result<Vec<u8>, Ignored> {
    let mut budget = Budget {
        associations: MAX_ASSOCIATIONS,
        leases: MAX_LEASES,
    };
    let mut known = Vec::with_capacity(options.len());
    each(options, |code, data| {
        let kept = match code {
            OptionCode::ClientId | OptionCode::ServerId => {
                Duid::new(data).ok_or(Ignored::Options)?;
                data.to_vec()
            }
            OptionCode::RapidCommit if data.is_empty() => Vec::new(),
            OptionCode::RapidCommit => return Err(Ignored::Options),
            OptionCode::IANA => association(data, ASSOCIATION_LEN, &ADDRESS, &mut budget)?,
            OptionCode::IATA => association(data, TEMPORARY_LEN, &ADDRESS, &mut budget)?,
            OptionCode::IAPD => association(data, ASSOCIATION_LEN, &PREFIX, &mut budget)?,
            _ => return Ok(()),
        };
        put(&mut known, code, &kept);
        Ok(())
    })?;
    Ok(known)
}

/// What an association holds.
struct Held {
    code: OptionCode,
    len: usize,
    fits: fn(&[u8]) -> bool,
}

const ADDRESS: Held = Held {
    code: OptionCode::IAAddr,
    len: ADDRESS_LEN,
    fits: |_| true,
};

const PREFIX: Held = Held {
    code: OptionCode::IAPrefix,
    len: PREFIX_LEN,
    fits: |data| data[PREFIX_LEN_AT] <= 128,
};

/// An association with what it holds, and without the options of those.
fn association(
    data: &[u8],
    fixed: usize,
    held: &Held,
    budget: &mut Budget,
) -> Result<Vec<u8>, Ignored> {
    Budget::take(&mut budget.associations)?;
    let (fixed, options) = data.split_at_checked(fixed).ok_or(Ignored::Options)?;
    let mut kept = fixed.to_vec();
    each(options, |code, data| {
        if code != held.code {
            return Ok(());
        }
        Budget::take(&mut budget.leases)?;
        let (fixed, nested) = data.split_at_checked(held.len).ok_or(Ignored::Options)?;
        if !(held.fits)(fixed) {
            return Err(Ignored::Options);
        }
        each(nested, |_, _| Ok(()))?;
        put(&mut kept, code, fixed);
        Ok(())
    })?;
    Ok(kept)
}

/// Reads options to the last byte.
fn each(
    mut options: &[u8],
    mut found: impl FnMut(OptionCode, &[u8]) -> Result<(), Ignored>,
) -> Result<(), Ignored> {
    while !options.is_empty() {
        let (header, rest) = options
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Ignored::Options)?;
        let [code, len] = [[header[0], header[1]], [header[2], header[3]]].map(u16::from_be_bytes);
        let (data, after) = rest
            .split_at_checked(usize::from(len))
            .ok_or(Ignored::Options)?;
        found(OptionCode::from(code), data)?;
        options = after;
    }
    Ok(())
}

/// Nothing kept is longer than it came, in an option.
fn put(to: &mut Vec<u8>, code: OptionCode, data: &[u8]) {
    to.extend_from_slice(&u16::from(code).to_be_bytes());
    to.extend_from_slice(&u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    to.extend_from_slice(data);
}
