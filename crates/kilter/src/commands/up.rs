//! `kilter up`.

use std::time::Duration;

use anyhow::Result;
use kilter_model::Family;
use kilter_twin::{Role, Summary, TwinSpec, UpOptions};
use serde_json::{Value, json};

use super::{print_json, runtime, sources, watch};
use crate::cli::{IpFamily, Output, UpArgs};
use crate::exit::Outcome;
use crate::progress::Progress;

pub fn run(args: &UpArgs) -> Result<Outcome> {
    let mut progress = Progress::new();
    if args.watch {
        watch::check(&args.source)?;
    }
    let loaded = sources::load(&args.source)?;
    for warning in &loaded.warnings {
        progress.warn(&warning.to_string());
    }
    let families: &[Family] = match args.ip_family {
        IpFamily::Ipv4 => &[Family::V4],
        IpFamily::Ipv6 => &[Family::V6],
        IpFamily::Dual => &[Family::V4, Family::V6],
    };
    let node_subnets = Role::NodeSubnet.ranges(families, &args.node_subnet);
    let options = UpOptions {
        spec: TwinSpec {
            nodes: args.nodes,
            lb_pools: kilter_twin::pools(&node_subnets, &args.lb_pool),
            node_subnets,
            pod_cidrs: Role::PodCidr.ranges(families, &args.pod_cidr),
            service_cidrs: Role::ServiceCidr.ranges(families, &args.service_cidr),
            routing: args.routing.into(),
            honour_initial_delay: args.honour_initial_delay,
            ..TwinSpec::named(&args.twin.name, families)
        },
        objects: loaded.objects.iter().map(|o| o.value.clone()).collect::<Vec<Value>>(),
        switch_context: args.use_context,
        timeout: Duration::from_secs(args.timeout),
    };
    let runtime = runtime()?;
    let summary = runtime.block_on(kilter_twin::up(options, &mut |step| progress.step(step)));
    progress.finish();
    let summary = summary?;
    match args.twin.output {
        Output::Json => print_json(&as_json(&summary))?,
        Output::Text => out!("{}", text(&summary)),
    }
    if args.watch {
        runtime.block_on(watch::follow(args, &loaded))?;
        return Ok(Outcome::Clean);
    }
    if summary.is_complete() {
        return Ok(Outcome::Clean);
    }
    anyhow::bail!("not everything runs; the twin stays up: see `kilter status --name {}`", summary.spec.name)
}

fn as_json(summary: &Summary) -> Value {
    json!({
        "twin": summary.spec.name,
        "context": summary.spec.context(),
        "nodes": summary.spec.nodes,
        "workloads": summary.workloads,
        "refused": summary.refused,
        "millis": summary.took.as_millis(),
    })
}

fn text(summary: &Summary) -> String {
    let spec = &summary.spec;
    let pods: usize = summary.workloads.iter().map(|w| w.ready).sum();
    let mut text = format!(
        "twin {} is up: {} nodes, {} workloads, {pods} pods ready, in {:.1} s\n",
        spec.name,
        spec.nodes,
        summary.workloads.len(),
        summary.took.as_secs_f64()
    );
    for refused in &summary.refused {
        text += &format!("  refused by the API: {refused}\n");
    }
    for workload in summary.workloads.iter().filter(|w| !w.is_ready()) {
        let (name, kind) = (&workload.name, &workload.kind);
        text += &format!("  not ready: {name}[{kind}] {} of {} pods\n", workload.ready, workload.wanted);
    }
    let name = match spec.name.as_str() {
        "default" => String::new(),
        name => format!(" --name {name}"),
    };
    let kubectl = match &spec.kubeconfig {
        Some(_) => format!("kubectl --context {}", spec.context()),
        None => format!("kubectl --kubeconfig {}/{}/admin.kubeconfig", kilter_twin::ROOT, spec.name),
    };
    text += &format!(
        "\nnext:\n  {kubectl} get pods -A\n  kilter verify{name}\n  kilter status{name}\n  kilter down{name}\n"
    );
    text
}
