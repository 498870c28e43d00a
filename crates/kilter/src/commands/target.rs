//! What a question is asked of: files, a twin, or a cluster.

use anyhow::{Context, Result};
use clap::Args;
use ipnet::IpNet;
use kilter_manifests::{Loaded, Object, Source};
use kilter_model::Cluster;
use kilter_reach::Options;
use kilter_twin::Layout;

use super::{runtime, sources};
use crate::cli::SourceArgs;

/// What to ask.
#[derive(Debug, Args)]
pub struct TargetArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Without -f: ask this twin.
    #[arg(long, env = "KILTER_TWIN", value_name = "TWIN")]
    pub name: Option<String>,
    /// Without -f: ask the cluster of this context of the kubeconfig. Without --name as well, the twin
    /// `default` is asked if it is up, else the current context.
    #[arg(long, value_name = "CONTEXT")]
    pub context: Option<String>,
    #[command(flatten)]
    pub addresses: AddressArgs,
}

/// What manifests do not say about addresses.
#[derive(Debug, Args)]
pub struct AddressArgs {
    /// Where pods' addresses come from, for policies that name address blocks; repeatable.
    #[arg(long, default_value = "10.244.0.0/16", value_name = "CIDR")]
    pub pod_cidr: Vec<IpNet>,
    /// Let no ipBlock match a pod, as some analysers do (Kubernetes' conformance tests want them to match).
    #[arg(long)]
    pub ip_blocks_exclude_pods: bool,
}

impl AddressArgs {
    /// As the model takes them.
    pub fn options(&self) -> Options {
        Options { pod_cidrs: self.pod_cidr.clone(), ip_blocks_match_pods: !self.ip_blocks_exclude_pods }
    }
}

/// What was found there.
pub struct Target {
    pub cluster: Cluster,
    pub options: Options,
}

/// Reads the files, or lists the API.
pub fn load(args: &TargetArgs) -> Result<Target> {
    let mut options = args.addresses.options();
    if !args.source.sources.is_empty() {
        let loaded = sources::load(&args.source)?;
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        let cluster = kilter_manifests::cluster(&loaded)?;
        return Ok(Target { cluster, options });
    }
    let cluster = runtime()?.block_on(async {
        let client = client(args).await?;
        Ok::<_, anyhow::Error>(kilter_cluster::snapshot(&client).await?)
    })?;
    let of_nodes: Vec<IpNet> = cluster.nodes().flat_map(|it| it.pod_cidrs.iter().copied()).collect();
    if !of_nodes.is_empty() {
        options.pod_cidrs = of_nodes;
    }
    Ok(Target { cluster, options })
}

/// The objects as they were declared. One that the API would refuse is a warning: it is judged as
/// well as it can be.
pub fn objects(args: &TargetArgs) -> Result<Loaded> {
    if !args.source.sources.is_empty() {
        let sources: Vec<Source> =
            args.source.sources.iter().map(|it| Source::parse(it)).collect::<Result<_, _>>()?;
        let tolerant =
            kilter_manifests::Options { tolerant: true, strict: args.source.strict, ..Default::default() };
        let loaded = kilter_manifests::load(&sources, &tolerant)?;
        loaded.warnings.iter().for_each(|it| eprintln!("warning: {it}"));
        return Ok(loaded);
    }
    let declared = runtime()?.block_on(async {
        let client = client(args).await?;
        Ok::<_, anyhow::Error>(kilter_cluster::declared(&client).await?)
    })?;
    let objects = declared.into_iter().map(|(value, origin)| Object { value, origin }).collect();
    Ok(Loaded { objects, ..Loaded::default() })
}

/// A client of the API that the arguments mean.
pub async fn client(args: &TargetArgs) -> Result<kilter_cluster::Client> {
    match (&args.context, &args.name) {
        (Some(context), _) => Ok(kilter_cluster::connect_context(Some(context)).await?),
        (None, Some(name)) => of_twin(name).await,
        (None, None) if kilter_twin::is_running("default")? => of_twin("default").await,
        (None, None) => kilter_cluster::connect_context(None).await.context(
            "there is nothing to ask: name sources with -f, a twin with --name, or a context with --context",
        ),
    }
}

async fn of_twin(name: &str) -> Result<kilter_cluster::Client> {
    kilter_twin::running(name)?;
    Ok(kilter_cluster::connect(&Layout::new(name).admin_kubeconfig()).await?)
}
