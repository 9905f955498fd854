//! What Doorstep's pages for browsers share: who is signed in, what proves that a form is ours,
//! passwords, the headers that keep a browser from doing anything else, and the page around the pages.
//!
//! Pages are made on the server and work without a script. Nothing is loaded from anywhere but the
//! server itself, and what it serves lies within the program.

#![forbid(unsafe_code)]

pub mod assets;
pub mod cookie;
pub mod events;
pub mod form;
pub mod headers;
pub mod origin;
pub mod page;
pub mod password;
pub mod session;
pub mod token;
