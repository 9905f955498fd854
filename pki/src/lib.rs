//! What server and gateway must see alike about certificates.
//!
//! | module | what it does |
//! |---|---|
//! | [`token`] | the one-time enrollment token, as text |
//! | [`identity`] | a key pair, its certificate, and the request for one |
//! | [`certificate`] | what a certificate says |
//! | [`lifetime`] | when to renew |
//! | [`files`] | private files, replaced as a whole |

#![forbid(unsafe_code)]

pub mod certificate;
pub mod files;
pub mod identity;
pub mod lifetime;
pub mod token;
