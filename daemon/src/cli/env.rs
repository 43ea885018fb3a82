//! `rhd env ls|build|rm`.

use std::collections::BTreeMap;

use rhd_protocol::{
    compute::{Amounts, Compute, UNIT},
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
};

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the envs of a node
    Ls {
        /// The node; this one by default
        #[arg(long)]
        node: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Build an env and start its worker
    Build(Build),
    /// Stop an env's worker and remove what was built
    Rm {
        /// Key of the env, as rhd env ls shows it
        key: String,
        /// The node; this one by default
        #[arg(long)]
        node: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Build {
    /// Requirements as pip takes them
    reqs: Vec<String>,
    /// What to call it
    #[arg(long, default_value = "")]
    name: String,
    /// A version (3.12) or the path of an interpreter on the node
    #[arg(long)]
    python: Option<String>,
    /// A conda env that exists on the node
    #[arg(long, conflicts_with = "python")]
    conda_env: Option<String>,
    /// A shell command to run once in the env; may be given again
    #[arg(long = "setup", value_name = "COMMAND")]
    setup: Vec<String>,
    /// An environment variable of its worker; may be given again
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = pair)]
    vars: Vec<(String, String)>,
    /// Worker processes
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: Option<u32>,
    /// What it needs of its node (cpus=2, gpus=1, memory=8 in GiB); may be given again
    #[arg(long = "needs", value_name = "RESOURCE=AMOUNT", value_parser = pair)]
    needs: Vec<(String, String)>,
    /// A label that its node must have; may be given again
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// The node; this one by default
    #[arg(long)]
    node: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    match args.verb {
        Verb::Ls { node, json } => {
            let envs = client.envs(node.as_deref()).await?;
            if json {
                return ui.json(&envs);
            }
            let rows: Vec<_> = envs
                .into_iter()
                .map(|env| {
                    let worker = env.pid.filter(|_| env.running);
                    vec![
                        env.key,
                        env.python,
                        worker.map_or_else(|| "-".into(), |pid| pid.to_string()),
                        env.services.to_string(),
                        env.spec.reqs.join(" "),
                    ]
                })
                .collect();
            ui.table(&["KEY", "PYTHON", "WORKER", "SERVICES", "PACKAGES"], &rows)
        }
        Verb::Build(build) => {
            let spec = EnvSpec {
                name: build.name,
                python: build.python,
                conda_env: build.conda_env,
                reqs: build.reqs,
                setup_cmds: build.setup,
                env_vars: build.vars.into_iter().collect::<BTreeMap<_, _>>(),
                workers: build.workers,
                binary: None,
                compute: compute(build.needs, build.labels)?,
            };
            let env =
                client.env_build(spec, build.node.as_deref(), |line| ui.progress(line)).await?;
            if build.json {
                return ui.json(&env);
            }
            ui.line(&env.key)
        }
        Verb::Rm { key, node } => {
            client.env_remove(&key, node.as_deref()).await?;
            ui.note(&format!("removed {key}"));
            Ok(())
        }
    }
}

/// Reads `name=value`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("use NAME=VALUE".into()),
    }
}

fn compute(
    needs: Vec<(String, String)>,
    labels: Vec<(String, String)>,
) -> Result<Compute, ErrorInfo> {
    let mut amounts = Amounts::new();
    for (name, amount) in needs {
        let number = amount.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let number = number.ok_or_else(|| {
            ErrorInfo::new(ErrorKind::BadRequest, format!("--needs {name}={amount}: no amount"))
                .hint("say how many: --needs gpus=1")
        })?;
        amounts.insert(name, (number * UNIT as f64).round() as u64);
    }
    Ok(Compute { amounts, labels: labels.into_iter().collect() })
}
