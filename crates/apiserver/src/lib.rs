//! The embedded Kubernetes API: what a network lab needs of it, in memory and in a journal.
//!
//! [`Resource::all`] is the published list of what is served; with what definitions of custom
//! resources add to it, that is all. Everything else answers 404, 405 or
//! 415, never an approximation. Kinds, defaults, validity and patches come from `objects`, so that
//! analysis of files and a running twin cannot differ.
//!
//! - `request`, `negotiate`, `decode` read what a client wants; `respond` and `render` answer.
//! - `registry` has the rules (identity, conflicts, finalizers, grace), `admission` what single
//!   kinds need beyond them, `store` the objects and their recent history, `watch` reads it.
//! - `custom` serves what CustomResourceDefinitions define.
//! - `gc` and `namespaces` clean up after owners and namespaces; they are part of the server, so
//!   that deletion works whatever controllers run.

#![forbid(unsafe_code)]

mod admission;
mod api;
mod auth;
mod body;
mod bootstrap;
mod config;
mod custom;
mod decode;
mod discovery;
mod gc;
mod handlers;
mod kubelet;
mod meta;
mod namespaces;
mod negotiate;
mod openapi;
pub mod pki;
mod protobuf;
mod registry;
mod render;
mod request;
mod resources;
mod respond;
mod selector;
mod server;
mod status;
mod store;
mod table;
mod views;
mod watch;

pub use auth::Token;
pub use config::{Config, Kubelet};
pub use custom::{Catalogue, Column, Custom, Scale, Version};
pub use resources::{Resource, Subresource};
pub use server::{ApiServer, Handle, StartError};
pub use status::{Cause, Status};
pub use store::{Change, Object, Store, TooOld, WriteError};
