//! Objects from the sources on the command line.

use anyhow::Result;
use kilter_manifests::{Loaded, Options, Source};

use crate::cli::SourceArgs;

/// Loads what `-f` names; without any, the current directory.
pub fn load(args: &SourceArgs) -> Result<Loaded> {
    let names = match args.sources.as_slice() {
        [] => vec![".".to_owned()],
        given => given.to_vec(),
    };
    let sources = names.iter().map(|n| Source::parse(n)).collect::<Result<Vec<_>, _>>()?;
    Ok(kilter_manifests::load(&sources, &Options { strict: args.strict, ..Options::default() })?)
}
