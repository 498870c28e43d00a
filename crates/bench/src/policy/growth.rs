//! How the costs of policy grow, one size at a time.

use anyhow::Result;
use kilter_policy::{Compiler, Config};
use kilter_reach::pairs;

use super::cluster::Size;
use super::{POD_CIDR, assumptions, load, repeat, seconds, text};

/// A cost that grows with something.
pub struct Curve {
    /// What it is a cost of.
    pub title: &'static str,
    /// What it grows with.
    pub along: &'static str,
    /// How much of that, and the cost in milliseconds.
    pub points: Vec<(f64, f64)>,
}

/// What the curves begin from: 10,000 pods of 1,000 workloads, 1,000 policies with one port each.
const MIDDLE: Size = Size { namespaces: 100, workloads: 10, replicas: 10, policies: 10, ports: 1 };

const ANSWER: &str = "answer for every pair";
const COMPILE: &str = "compile one node's rows";

/// Measures all curves, each point the median of so many runs.
pub fn measure(runs: usize, progress: &mut dyn FnMut(&str)) -> Result<Vec<Curve>> {
    let steps = [4, 10, 20, 30, 40];
    let pods = steps.map(|replicas| Size { replicas, ..MIDDLE });
    let policies = [5, 10, 20, 30, 40].map(|policies| Size { policies, ..MIDDLE });
    let ports = [1, 2, 4, 8, 16].map(|ports| Size { ports, ..MIDDLE });
    let mut curves = Vec::new();
    for (along, sizes, amount) in [
        ("pods", pods, Size::pods as fn(Size) -> usize),
        ("policies", policies, Size::all_policies),
        ("ports of each rule", ports, |size| size.ports),
    ] {
        let (mut answers, mut compiles) = (Vec::new(), Vec::new());
        for size in sizes {
            progress(&format!("growth with {along}: {}", amount(size)));
            let cluster = load(&text(size)?)?;
            let at = amount(size) as f64;
            answers.push((at, median(repeat(runs, || seconds(|| pairs(&cluster, &assumptions())))?)));
            let config = Config { node: "node-7".into(), pod_cidrs: vec![POD_CIDR.parse()?] };
            let compile = || Compiler::new(config.clone()).update(&cluster, &[]);
            compiles.push((at, median(repeat(runs, || seconds(compile))?)));
        }
        curves.push(Curve { title: ANSWER, along, points: answers });
        curves.push(Curve { title: COMPILE, along, points: compiles });
    }
    Ok(curves)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2] * 1e3
}
