//! The command line: names, options and help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::commands::connections::ConnectionsArgs;
use crate::commands::diff::DiffArgs;
use crate::commands::lint::LintArgs;
use crate::commands::why::WhyArgs;

/// The network of a Kubernetes cluster: run it, prove it, keep it.
#[derive(Debug, Parser)]
#[command(
    name = "kilter",
    version,
    max_term_width = 100,
    after_help = "\
Thirty seconds:  kilter connections -f REPO      who may reach whom, from the manifests alone
Five minutes:    sudo kilter up -f REPO          the same network, running, with real packets

Exit codes: 0 clean; 1 a finding or disagreement; 2 usage or bad input; 3 this machine cannot; 4 could not finish."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring up a twin of what the sources describe: nodes, pods, Services and policies, with real packets.
    #[command(after_help = "\
Examples:
  kilter up                                   the current directory
  kilter up -f shop/ -f policies/ --name shop
  kilter up -f app.yaml -f kustomize/components/network-policies --nodes 5
  kilter up -f shop/ --ip-family dual --routing vxlan
  kilter up -f shop/ --watch                  apply what changes in the files, until Ctrl-C
  helm template chart/ | kilter up -f -",
        after_long_help = "\
Examples:
  kilter up                                   the current directory
  kilter up -f shop/ -f policies/ --name shop
  kilter up -f app.yaml -f kustomize/components/network-policies --nodes 5
  kilter up -f shop/ --ip-family dual --routing vxlan
  kilter up -f shop/ --watch                  apply what changes in the files, until Ctrl-C
  helm template chart/ | kilter up -f -

Containers are stand-ins: they listen where the manifests say, answer HTTP, TCP, UDP and gRPC
health, and say who they are. Annotations of a pod (spec.template.metadata) change that:
  kilter.dev/run: process            run its commands on this machine, for real, in the pod
  kilter.dev/run.CONTAINER: process  or one container's (stand-in: not that one's)
  kilter.dev/fail: readiness,http    liveness, readiness, startup, http, grpc, tcp, udp, all
  kilter.dev/delay: 250ms            how long each answer takes
  kilter.dev/error-rate: 5%          the share of requests that fail
  kilter.dev/bandwidth: 10M          bits a second that the pod's stand-ins send")]
    Up(UpArgs),
    /// What runs in a twin, and what does not and why.
    Status(TwinArgs),
    /// All twins on this machine.
    List(ListArgs),
    /// Take a twin down and remove every trace of it.
    Down(DownArgs),
    /// Every permitted connection, workload to workload and outside. Needs no root and no cluster.
    #[command(after_help = "\
Examples:
  kilter connections -f shop/ -f policies/
  kilter connections -f shop/ --focus payments --direction ingress --explain
  kilter connections -f shop/ -o html > shop.html
  kilter connections --context prod -o csv
  kilter connections -f app.yaml -o json | jq '.connections[] | select(.to == \"shop/db[StatefulSet]\")'")]
    Connections(ConnectionsArgs),
    /// The connections that a change opens and closes, and what the internet may do differently.
    #[command(after_help = "\
Examples:
  kilter diff deploy/ new-deploy/
  kilter diff main...HEAD -- deploy/               in the Git repository here, since both were one
  kilter diff origin/main.. -o markdown -- deploy/ | gh pr comment --body-file -

Exit codes: 0 nothing differs; 1 something does; 2 bad input.")]
    Diff(DiffArgs),
    /// What is broken for certain, which connections it breaks and what mends it; then missing practice.
    #[command(after_help = "\
Examples:
  kilter lint -f deploy/ -f policies/
  kilter lint -f deploy/ --errors-only -o sarif > kilter.sarif
  kilter lint --name shop                          what was applied to a twin

Each rule has a page in docs/lint/. To suppress one, annotate the object: kilter.dev/lint-ignore: \"KLT001: why\"

Exit codes: 0 nothing found; 1 something; 2 bad input.")]
    Lint(LintArgs),
    /// May one end open a connection to another, which rule decides, and what is missing?
    #[command(after_help = "\
Examples:
  kilter why -f shop/ cart payments:8443          a port of a workload
  kilter why -f shop/ storefront svc/catalog      each port of a Service, at the pods behind it
  kilter why -f shop/ payments internet:443       every address outside, by range
  kilter why --name shop pod/web-0 10.244.1.7:80  in a twin; --context CONTEXT asks a cluster
  kilter why --live --name shop cart payments:80  what its nodes have loaded, and what they refused lately

Exit codes: 0 allowed; 1 denied, in part or in whole, nobody answers, or a node differs from the model; 2 nothing
is called so.")]
    Why(WhyArgs),
    /// Send real packets between every pair of pods of a twin and compare with the model.
    Verify(VerifyArgs),
    /// Read back what the kernel of each node has loaded and prove it equal to the model, for every packet.
    #[command(after_help = "\
Compared with a fresh list of the API: policy rows for all packets (classes of peers, protocols, ranges of
ports, both directions), cached flows, Services, pod links and their hardware addresses, neighbours, routes,
the masquerade rule, sysctls of both families, hooks and foreign filters before them.
A difference is shown as a packet, with what the model says of it and what the kernel would do.

Examples:
  kilter prove
  kilter prove --name shop --node node-2
  kilter prove -o json | jq '.nodes[].findings[].packet'

Exit codes: 0 equal; 1 a difference.")]
    Prove(crate::commands::prove::ProveArgs),
    /// Who talks to whom in a twin now, and what was refused by which rule.
    #[command(after_help = "\
Examples:
  kilter flows                                connections that are open now, with the rules that admit them
  kilter flows --drops                        what was refused lately, and by which rule
  kilter flows --follow --with cart           what opens and what is refused, as it happens
  kilter flows --follow --drops -o json | jq -r .rule")]
    Flows(crate::commands::flows::FlowsArgs),
    /// Add nodes to a twin that runs, remove them, cut them off.
    #[command(after_help = "\
Examples:
  kilter node add                             the next number; waits until it is ready
  kilter node remove node-2                   its workloads' pods are made anew elsewhere
  kilter node isolate node-3                  until `kilter node rejoin`")]
    Node(crate::commands::node::NodeArgs),
    /// Break things in a twin on purpose, mend them, and say how long it took until all was well.
    #[command(after_help = "\
Examples:
  kilter chaos cut-node node-2 --for 5        cut a node off for five seconds, then wait until all is well
  kilter chaos cut-link node-1 node-3         two nodes lose each other, until `kilter chaos heal`
  kilter chaos loss node-1 20 --for 10
  kilter chaos delay node-1 50 --for 10       50 ms each way
  kilter chaos kill-pod shop/database-0
  kilter chaos fail-probe shop/database-0 readiness")]
    Chaos(crate::commands::chaos::ChaosArgs),
    /// Measure, with peers beside Kilter in the same run.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print the completion script of a shell.
    #[command(after_help = "\
Examples:
  source <(kilter completion bash)
  kilter completion zsh > ~/.zfunc/_kilter
  kilter completion fish > ~/.config/fish/completions/kilter.fish")]
    Completion {
        /// bash, elvish, fish, powershell or zsh.
        shell: clap_complete::Shell,
    },
    /// Run one of Kilter's own processes; people rarely type these.
    #[command(subcommand, hide = true)]
    Run(RunCommand),
}

/// Where objects come from.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// A file, a directory, a kustomization, or `-`; repeatable, a later object replaces an earlier one.
    #[arg(short = 'f', long = "filename", value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Treat kinds that Kilter does not support as an error.
    #[arg(long)]
    pub strict: bool,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Which twin, and how to print.
#[derive(Debug, Args)]
pub struct TwinArgs {
    /// The twin's name.
    #[arg(long, default_value = "default", env = "KILTER_TWIN")]
    pub name: String,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `kilter list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `kilter up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub twin: TwinArgs,
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    pub nodes: u32,
    /// Which address families nodes, pods and Services have.
    #[arg(long, value_enum, default_value = "ipv4")]
    pub ip_family: IpFamily,
    /// How pods' packets travel from node to node.
    #[arg(long, value_enum, default_value = "native")]
    pub routing: RoutingMode,
    /// Where pods' addresses come from, at most one range of each family; each node gets a /24 of IPv4, a
    /// /64 of IPv6 [default: 10.244.0.0/16, fd00:244::/48].
    #[arg(long, value_delimiter = ',', value_name = "CIDR[,CIDR]")]
    pub pod_cidr: Vec<IpNet>,
    /// Where Services' addresses come from [default: 10.96.0.0/16, fd00:96::/108].
    #[arg(long, value_delimiter = ',', value_name = "CIDR[,CIDR]")]
    pub service_cidr: Vec<IpNet>,
    /// The nodes' own subnets [default: 10.240.0.0/16, fd00:240::/64].
    #[arg(long, value_delimiter = ',', value_name = "CIDR[,CIDR]")]
    pub node_subnet: Vec<IpNet>,
    /// Where Services of type LoadBalancer get their addresses from, at most one range of each family; within
    /// the node subnets or elsewhere [default: 10.240.255.0/24, fd00:240::ff00/120: the end of the node subnets].
    #[arg(long, value_delimiter = ',', value_name = "CIDR[,CIDR]")]
    pub lb_pool: Vec<IpNet>,
    /// Follow the files then: apply what changes, delete what no source declares any more. Faults are told,
    /// and the twin stays as it is until they are mended.
    #[arg(long)]
    pub watch: bool,
    /// Make the twin the current context of kubectl.
    #[arg(long)]
    pub use_context: bool,
    /// Wait out the probes' initialDelaySeconds, though a stand-in starts at once.
    #[arg(long)]
    pub honour_initial_delay: bool,
    /// How long to wait for every pod to be ready, in seconds.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub timeout: u64,
}

/// The families of a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IpFamily {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both; IPv4 is the primary one, in which Services are that do not ask for a family.
    Dual,
}

/// The ways between a twin's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoutingMode {
    /// As they are: the fabric has a route to each node's pods, as a VPC's route table.
    Native,
    /// In VXLAN between the nodes' addresses (the primary family's); the fabric knows nothing of pods.
    Vxlan,
}

impl From<RoutingMode> for kilter_model::Routing {
    fn from(mode: RoutingMode) -> Self {
        match mode {
            RoutingMode::Native => Self::Native,
            RoutingMode::Vxlan => Self::Vxlan,
        }
    }
}

/// `kilter down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// The twin's name.
    #[arg(long, default_value = "default", env = "KILTER_TWIN", conflicts_with = "all")]
    pub name: String,
    /// Every twin on this machine.
    #[arg(long)]
    pub all: bool,
}

/// `kilter verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub twin: TwinArgs,
    /// Print every trial, not only disagreements.
    #[arg(long)]
    pub all: bool,
    /// Try so many pods alone, evenly spread, and as many Services: pairs grow with the square.
    #[arg(long, value_name = "PODS")]
    pub sample: Option<usize>,
}

/// `kilter bench`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Latency of packets: pod to pod and through Services, beside the kernel's own ways.
    #[command(after_help = "\
Examples:
  kilter bench datapath
  kilter bench datapath --routing native,vxlan --ip-family ipv4,ipv6 --no-peers --runs 3")]
    Datapath(BenchDatapathArgs),
    /// Requests, events of watches and `kubectl apply` of the embedded API. Needs no root.
    #[command(after_help = "\
Examples:
  kilter bench api
  KUBECTL=/opt/kubectl kilter bench api --runs 3")]
    Api(BenchArgs),
    /// CNI ADD and DEL beside the reference plugins ptp and bridge.
    Cni(BenchArgs),
    /// Time and memory of answering for 100,000 pods under 10,000 policies, of one change, and (as root) of a
    /// node's rows in the kernel.
    #[command(after_help = "\
Examples:
  kilter bench policy
  kilter bench policy --runs 3 --plot docs/policy-growth.svg      also how costs grow, as a picture")]
    Policy(BenchPolicyArgs),
    /// Services: latency through one of many, time until all are known, and until a change is followed.
    #[command(after_help = "\
Examples:
  kilter bench services
  kilter bench services --services 1,1000 --runs 3 -o json")]
    Services(BenchServicesArgs),
    /// Minutes of load with changing Services, and a node's process killed in the midst: nothing may be lost.
    #[command(after_help = "\
Exit code 1: a connection was lost, refused or led astray, or `kilter prove` differs after it.

Examples:
  kilter bench soak
  kilter bench soak --seconds 30 --connections 1000")]
    Soak(BenchSoakArgs),
    /// A server of a benchmark.
    #[command(hide = true)]
    Server {
        /// The network namespace to listen in.
        #[arg(long)]
        netns: PathBuf,
        /// The byte to answer.
        #[arg(long)]
        who: u8,
    },
    /// Time to ready and memory of a twin.
    #[command(after_help = "\
Examples:
  kilter bench twin -f shop/
  kilter bench twin --pods 1000 --nodes 20 --runs 1")]
    Twin(BenchTwinArgs),
}

/// Options of every benchmark.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// How many runs each figure is the median of.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// How to print the figures; JSON is one object a line.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `kilter bench policy`.
#[derive(Debug, Args)]
pub struct BenchPolicyArgs {
    #[command(flatten)]
    pub bench: BenchArgs,
    /// Also measure how costs grow with pods, policies and ports, and draw it as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// `kilter bench services`.
#[derive(Debug, Args)]
pub struct BenchServicesArgs {
    #[command(flatten)]
    pub bench: BenchArgs,
    /// How many Services; the last number is that of the figures besides latency.
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_value = "1,100,10000",
        value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub services: Vec<u16>,
}

/// `kilter bench soak`.
#[derive(Debug, Args)]
pub struct BenchSoakArgs {
    /// How long.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(10..))]
    pub seconds: u64,
    /// Connections that live all the time.
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
    /// New connections a second.
    #[arg(long, default_value_t = 1_000)]
    pub rate: u32,
    /// Changes of endpoint slices a second.
    #[arg(long, default_value_t = 100)]
    pub churn: u32,
    /// How to print the figures; JSON is one object a line.
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
}

/// `kilter bench datapath`.
#[derive(Debug, Args)]
pub struct BenchDatapathArgs {
    #[command(flatten)]
    pub bench: BenchArgs,
    /// How Kilter's packets travel between nodes; a twin for each.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "native")]
    pub routing: Vec<RoutingMode>,
    /// Which address families Kilter's pods speak.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ipv4")]
    pub ip_family: Vec<BenchFamily>,
    /// Kilter alone, without its peers.
    #[arg(long)]
    pub no_peers: bool,
}

/// A family that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// `kilter bench twin`.
#[derive(Debug, Args)]
pub struct BenchTwinArgs {
    #[command(flatten)]
    pub bench: BenchArgs,
    /// What to bring up.
    #[arg(short = 'f', long = "filename", value_name = "SOURCE", required_unless_present = "pods")]
    pub sources: Vec<String>,
    /// Instead: so many pods, a hundred to an application with Services and a policy.
    #[arg(long, conflicts_with = "sources")]
    pub pods: Option<u32>,
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    pub nodes: u32,
}

/// The processes of a twin.
#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// The API and the controllers of a twin.
    ControlPlane {
        /// The twin's specification (`twin.json`).
        #[arg(long)]
        spec: PathBuf,
    },
    /// One node: agent, DNS and pods.
    Node {
        /// The node's configuration (`node.json`).
        #[arg(long)]
        config: PathBuf,
    },
    /// Starts again what dies of a twin.
    Supervisor {
        /// The twin's specification (`twin.json`).
        #[arg(long)]
        spec: PathBuf,
    },
}
