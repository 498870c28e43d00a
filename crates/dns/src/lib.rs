//! The cluster's DNS: the names of Services and of pods behind headless ones.
//!
//! [`Zone`] answers, from the model, as the specification wants
//! (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>, version 1.1.0). [`serve`]
//! puts it on a UDP and a TCP socket, which the caller opened where they belong (a twin: inside
//! the DNS pod's network namespace). [`Outside`] is the resolver of a twin's internet. Names outside the cluster go to an [`Upstream`], or are
//! refused at once where there is none: REFUSED makes a resolver give up on this server, where
//! NXDOMAIN would be a lie and silence a wait.

#![forbid(unsafe_code)]

mod chaos;
mod message;
mod outside;
mod server;
mod stream;
mod upstream;
mod zone;

pub use chaos::Identity;
pub use outside::Outside;
pub use server::{Server, Sockets, Source, serve};
pub use upstream::Upstream;
pub use zone::{Answer, Config, InvalidDomain, Zone};
