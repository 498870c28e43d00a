//! Answers in the forms that people and programs read: tables, pull requests, pictures.

pub mod csv;
pub mod dot;
pub mod html;
pub mod markdown;
pub mod text;
