//! Packets against the model: every pair of pods of a twin, every port, every Service.
//!
//! An allowed trial must be answered by the right pod; a refused one must show the drop event that
//! names what refused it. Silence is not denial, and an answer from somebody else is not success.

#![forbid(unsafe_code)]

mod judge;
mod live;
mod plan;
mod prove;
mod report;
mod run;
mod session;

pub use judge::{Finding, Judged};
pub use live::{Live, LiveSide, live};
pub use plan::{Expected, Target, Trial, plan, plan_sample};
pub use prove::{NodeProof, ProofReport, TRUSTED, prove};
pub use report::Report;
pub use run::verify;
pub use session::{Options, Session};
